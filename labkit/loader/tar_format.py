"""WebDataset: samples in plain tar files, read in one go and by the library itself."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from labkit.errors import DataError
from labkit.loader.manifest import Shard, ShardFolder, write_shards
from labkit.loader.samples import Prepare
from labkit.loader.storage import LOCAL, Storage
from labkit.loader.stream import ShardStream

__all__ = ["TAR", "tar_stream", "write_tar"]

TAR = "WebDataset tar"


def write_tar(
    folder: Path, samples: Sequence[bytes], extension: str, *, samples_per_shard: int, data_version: str
) -> ShardFolder:
    """Members ``000000.jpg``, ``000001.jpg``, … of shards ``00000.tar``, …"""
    contents, counts = {}, {}
    for start in range(0, len(samples), samples_per_shard):
        part, name = samples[start : start + samples_per_shard], f"{start // samples_per_shard:05}.tar"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for index, content in enumerate(part, start):
                member = tarfile.TarInfo(f"{index:06}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        contents[name], counts[name] = buffer.getvalue(), len(part)
    return write_shards(folder, TAR, data_version, contents, counts)


def tar_stream(shards: ShardFolder, extension: str, prepare: Prepare, *, storage: Storage = LOCAL) -> ShardStream:
    """An iterable dataset over the shards, unpacked by webdataset's own reader."""
    return ShardStream(shards, _Unpack(extension, prepare), storage=storage)


class _Unpack:  # an object and no closure: where workers are spawned, it is sent to them
    def __init__(self, extension: str, prepare: Prepare) -> None:
        self.extension, self.prepare = extension, prepare

    def __call__(self, shard: Shard, content: bytes) -> Iterator[Tensor]:
        from webdataset import tariterators

        try:
            files = tariterators.tar_file_expander([{"url": shard.name, "stream": io.BytesIO(content)}])
            members = [sample[self.extension] for sample in tariterators.group_by_keys(files)]
        except (tarfile.TarError, ValueError, KeyError) as error:
            raise DataError(f"The shard {shard.name} cannot be unpacked ({error}). Write the shards again.") from error
        for member in members:
            yield self.prepare(member)
