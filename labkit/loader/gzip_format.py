"""Gzip shards of JSON lines: small to store, read from the first byte to the last, unpacked and tokenised each time."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from labkit.errors import DataError
from labkit.loader.manifest import Shard, ShardFolder, write_shards
from labkit.loader.samples import Prepare
from labkit.loader.storage import LOCAL, Storage
from labkit.loader.stream import ShardStream

__all__ = ["GZIP", "gzip_stream", "write_gzip"]

GZIP = "gzip JSON lines"


def write_gzip(folder: Path, texts: Sequence[bytes], *, samples_per_shard: int, data_version: str) -> ShardFolder:
    """``{"text": …}`` a line."""
    contents, counts = {}, {}
    for start in range(0, len(texts), samples_per_shard):
        part, name = texts[start : start + samples_per_shard], f"{start // samples_per_shard:05}.jsonl.gz"
        lines = [json.dumps({"text": text.decode("utf-8", "replace")}) for text in part]
        contents[name] = gzip.compress("\n".join(lines).encode(), mtime=0)  # no clock: the same text, the same bytes
        counts[name] = len(part)
    return write_shards(folder, GZIP, data_version, contents, counts)


def gzip_stream(shards: ShardFolder, prepare: Prepare, *, storage: Storage = LOCAL) -> ShardStream:
    """An iterable dataset over the shards; each worker takes every so-manieth shard."""
    return ShardStream(shards, _Unpack(prepare), storage=storage)


class _Unpack:  # an object and no closure: where workers are spawned, it is sent to them
    def __init__(self, prepare: Prepare) -> None:
        self.prepare = prepare

    def __call__(self, shard: Shard, content: bytes) -> Iterator[Tensor]:
        try:
            lines = gzip.decompress(content).decode().splitlines()
            texts = [json.loads(line)["text"] for line in lines]
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise DataError(f"The shard {shard.name} cannot be unpacked ({error}). Write the shards again.") from error
        for text in texts:
            yield self.prepare(text.encode())
