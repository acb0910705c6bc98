"""A sample is a range of bytes somewhere, and what makes a tensor of them: all map-style formats are that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from labkit.errors import DataError
from labkit.loader.storage import LOCAL, Storage

__all__ = ["Location", "Prepare", "Samples"]

Prepare = Callable[[bytes], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where the bytes of one sample are."""

    path: Path
    offset: int = 0
    num_bytes: int


class Samples(Dataset[Tensor]):
    """``samples[i]`` fetches the bytes of location i from the storage and prepares them. One request a sample."""

    def __init__(self, locations: Sequence[Location], prepare: Prepare, *, storage: Storage = LOCAL) -> None:
        if not locations:
            raise DataError("A dataset needs at least one sample; got none.")
        self.locations, self.prepare, self.storage = tuple(locations), prepare, storage

    def __len__(self) -> int:
        return len(self.locations)

    def fetch(self, index: int) -> bytes:
        where = self.locations[index]
        return self.storage.read(where.path, where.offset, where.num_bytes)

    def __getitem__(self, index: int) -> Tensor:
        return self.prepare(self.fetch(index))

    def on(self, storage: Storage) -> Samples:
        """The same samples, fetched from another storage."""
        return Samples(self.locations, self.prepare, storage=storage)

    def repeated(self, times: int) -> Samples:
        """So many passes in one: a loader's workers stop at the end of a pass, and the device waits for a new start."""
        return Samples(self.locations * times, self.prepare, storage=self.storage)

    @property
    def num_samples(self) -> int:
        return len(self.locations)

    @property
    def num_reads(self) -> int:
        """Requests of one pass."""
        return len(self.locations)

    @property
    def bytes_per_sample(self) -> float:
        return sum(where.num_bytes for where in self.locations) / len(self.locations)
