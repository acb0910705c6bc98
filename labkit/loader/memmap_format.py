"""Memory-mapped tokens: samples of one size one behind another, so that any of them is one multiplication away."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from labkit.errors import DataError
from labkit.loader.manifest import ShardFolder, read_shards, write_shards
from labkit.loader.prepare import TOKEN, token_array
from labkit.loader.samples import Location

__all__ = ["MEMMAP", "MappedTokens", "token_locations", "write_tokens"]

MEMMAP, FILE = "memory-mapped tokens", "tokens.bin"


def write_tokens(folder: Path, samples: Iterable[Tensor], *, data_version: str) -> ShardFolder:
    """All samples, each (num_tokens,), into one file."""
    rows = [token_array(sample) for sample in samples]
    if not rows or len({len(row) for row in rows}) != 1:
        raise DataError(f"Mapped samples must be of one length, and at least one; got {len(rows)} samples.")
    return write_shards(folder, MEMMAP, data_version, {FILE: b"".join(rows)}, {FILE: len(rows)})


class MappedTokens(Dataset[Tensor]):
    """Samples of a folder that `write_tokens` wrote, through the system's page cache: nothing is read twice."""

    def __init__(self, folder: Path) -> None:
        shards = read_shards(folder, MEMMAP)
        self._rows = np.memmap(shards.path(shards.shards[0]), dtype=TOKEN, mode="r").reshape(shards.num_samples, -1)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._rows[index].astype(np.int64))  # (num_tokens,)


def token_locations(shards: ShardFolder) -> tuple[Location, ...]:
    """The same samples as byte ranges, for a storage that cannot be mapped."""
    [shard] = shards.shards
    size = shard.num_bytes // shard.num_samples
    return tuple(
        Location(path=shards.path(shard), offset=size * index, num_bytes=size) for index in range(shard.num_samples)
    )
