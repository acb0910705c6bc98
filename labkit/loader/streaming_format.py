"""A kept streaming format: litdata's chunks, which the library itself writes, downloads ahead and reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from labkit.errors import DataError
from labkit.loader.manifest import ShardFolder, write_shards
from labkit.loader.storage import LOCAL, RemoteStorage, Storage

__all__ = ["STREAMING", "streaming_dataset", "streaming_loader", "write_streaming"]

STREAMING, SCHEME, INDEX = "litdata chunks", "labkit-storage:", "index.json"


@cache
def _litdata() -> Any:
    os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"  # it would ask a server whether it is the newest
    import litdata.streaming.downloader as downloader

    class Download(downloader.Downloader):  # type: ignore[misc]
        """Chunks by a storage of the lab's, whose address stands in storage_options."""

        def download_file(self, remote_filepath: str, local_filepath: str) -> None:
            if not os.path.exists(local_filepath):
                address = self._storage_options["address"]
                storage = RemoteStorage(address) if address else LOCAL
                scratch = self._temp_download_path(local_filepath)
                Path(scratch).write_bytes(storage.read(Path(remote_filepath.removeprefix(SCHEME))))
                self._publish_file(scratch, local_filepath)

    downloader.register_downloader(SCHEME, Download, overwrite=True)
    import litdata

    return litdata


def write_streaming(
    folder: Path, samples: Iterable[Tensor], *, samples_per_chunk: int, data_version: str
) -> ShardFolder:
    """Samples, each (num_tokens,), as litdata's chunks and its index, with the lab's manifest over both."""
    litdata, scratch = _litdata(), folder.with_name(f".{folder.name}.making")
    scratch.mkdir(parents=True)
    try:
        writer = litdata.streaming.writer.BinaryWriter(str(scratch), chunk_size=samples_per_chunk)
        for index, sample in enumerate(samples):
            writer[index] = sample
        writer.done()
        writer.merge()
        counts = {
            chunk["filename"]: chunk["chunk_size"] for chunk in json.loads((scratch / INDEX).read_text())["chunks"]
        }
        contents = {name: (scratch / name).read_bytes() for name in (*counts, INDEX)}
    finally:
        for path in scratch.iterdir():
            path.unlink()
        scratch.rmdir()
    if not counts:
        raise DataError("A streaming folder needs at least one sample; got none.")
    return write_shards(folder, STREAMING, data_version, contents, counts | {INDEX: 0})


def streaming_dataset(shards: ShardFolder, *, cache: Path, storage: Storage = LOCAL, ahead: int = 2) -> Any:
    """litdata's StreamingDataset. Chunks come through the storage into ``cache``, up to ``ahead`` of them before they
    are needed, in a thread of the library's own."""
    litdata = _litdata()
    address = storage.address if isinstance(storage, RemoteStorage) else ""
    cache.mkdir(parents=True, exist_ok=True)
    return litdata.StreamingDataset(
        litdata.streaming.resolver.Dir(path=str(cache), url=f"{SCHEME}{shards.folder}"),
        storage_options={"address": address},
        max_pre_download=ahead,
    )


def streaming_loader(dataset: Any, *, batch_size: int, num_workers: int) -> Any:
    """litdata's own DataLoader, which keeps its place: ``state_dict``, ``load_state_dict``."""
    return _litdata().StreamingDataLoader(dataset, batch_size=batch_size, num_workers=num_workers, drop_last=True)
