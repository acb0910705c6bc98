"""An iterable dataset over shards: each worker fetches whole shards of its own, one request a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from labkit.loader.manifest import Shard, ShardFolder
from labkit.loader.storage import LOCAL, Storage

__all__ = ["ShardStream"]

Unpack = Callable[[Shard, bytes], Iterator[Tensor]]


class ShardStream(IterableDataset[Tensor]):
    """Shards in their order, split among the loader's workers."""

    def __init__(self, shards: ShardFolder, unpack: Unpack, *, storage: Storage = LOCAL) -> None:
        self.shards, self.unpack, self.storage = shards, unpack, storage

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for shard in self.shards.shards[first::step]:
            yield from self.unpack(shard, self.storage.read(self.shards.path(shard)))

    def on(self, storage: Storage) -> ShardStream:
        """The same shards, fetched from another storage."""
        return ShardStream(self.shards, self.unpack, storage=storage)

    def repeated(self, times: int) -> ShardStream:
        """So many passes in one."""
        passes = replace(self.shards, shards=self.shards.shards * times)
        return ShardStream(passes, self.unpack, storage=self.storage)

    @property
    def num_samples(self) -> int:
        return self.shards.num_samples

    @property
    def num_reads(self) -> int:
        """Requests of one pass, by all workers together."""
        return len(self.shards.shards)

    @property
    def bytes_per_sample(self) -> float:
        return self.shards.bytes_per_sample
