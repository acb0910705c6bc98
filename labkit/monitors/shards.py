"""The drill's data: seeded shards, and the order in which each rank reads its own, one left out or read twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from labkit.monitors.faults import Fault

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ShardReader", "Sizes", "make_shards"]

_NOISY = 0.1  # the share of labels that are drawn anew, so that the loss keeps its noise


class Sizes(Protocol):
    """What the data need to know of a drill."""

    @property
    def num_ranks(self) -> int: ...
    @property
    def num_shards(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def num_features(self) -> int: ...
    @property
    def num_classes(self) -> int: ...


def make_shards(sizes: Sizes, seed: int) -> tuple[Tensor, Tensor]:
    """(shards, B, features) random points, and (shards, B) their classes by a random linear teacher."""
    import torch

    generator = torch.Generator().manual_seed(seed + 1)
    points = torch.randn((sizes.num_shards, sizes.batch_size, sizes.num_features), generator=generator)
    teacher = torch.randn((sizes.num_features, sizes.num_classes), generator=generator)
    labels = (points @ teacher).argmax(dim=-1)
    noise = torch.randint(sizes.num_classes, labels.shape, generator=generator)
    noisy = torch.rand(labels.shape, generator=generator) < _NOISY
    return points, torch.where(noisy, noise, labels)


class ShardReader:
    """One rank's shards: every num_ranks-th of a permutation that all ranks draw alike, epoch after epoch.

    A skipped shard is one that could not be opened, and the loader took the next. A repeated one is a cursor that was
    not moved on, as after a careless restore. In both cases everything after it shifts by one.
    """

    def __init__(self, sizes: Sizes, seed: int, rank: int, fault: Fault | None) -> None:
        self._sizes, self._seed, self._rank = sizes, seed, rank
        self._fault = fault if fault is not None and fault.rank == rank else None
        self._cursor = 0
        self._orders: dict[int, list[int]] = {}  # of the epochs that have been begun

    def next(self, step: int) -> tuple[int, int]:
        """(epoch, shard) that this rank reads in this step."""
        kind = self._fault.kind if self._fault is not None and self._fault.step == step else ""
        if kind == "skipped shard":
            self._cursor += 1
        elif kind == "repeated shard":
            self._cursor -= 1
        read = self._at(self._cursor)
        self._cursor += 1
        return read

    def _at(self, cursor: int) -> tuple[int, int]:
        each = self._sizes.num_shards // self._sizes.num_ranks
        epoch, place = divmod(cursor, each)
        if epoch not in self._orders:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._sizes.num_shards)
            self._orders[epoch] = order[self._rank :: self._sizes.num_ranks].tolist()
        return epoch, self._orders[epoch][place]
