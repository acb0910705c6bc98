"""One global order: whatever the world size, and wherever an epoch was left, step s sees the same samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from labkit.errors import UsageError
from labkit.sizes import divisors, either

__all__ = ["GlobalOrder", "RankSampler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalOrder:
    """Which samples step s of epoch e trains on, all ranks together. Nothing here knows how many ranks there are.

    The last samples of an epoch that fill no global batch are left out of it; the next epoch shuffles anew.
    """

    num_samples: int
    global_batch: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.global_batch <= self.num_samples:
            came = f"global_batch = {self.global_batch} of {self.num_samples} samples"
            raise UsageError(f"A global batch holds at least one sample and at most all of them; got {came}.")

    @property
    def steps_per_epoch(self) -> int:
        return self.num_samples // self.global_batch

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """The samples of an epoch, in order: (steps_per_epoch · global_batch,)."""
        shuffled = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
        return shuffled[: self.steps_per_epoch * self.global_batch]

    def step(self, step: int) -> NDArray[np.int64]:
        """The samples of a step counted from the run's beginning: (global_batch,)."""
        if step < 0:
            raise UsageError(f"A step is counted from 0; got {step}.")
        epoch, within = divmod(step, self.steps_per_epoch)
        return self.epoch(epoch)[within * self.global_batch :][: self.global_batch]


class RankSampler(Sampler[list[int]]):
    """One rank's share of every step, as ``DataLoader(batch_sampler=…)`` wants it, from ``start_step`` to the end of
    that epoch; the next pass over it takes the next epoch.

    A step's global batch is cut into world_size parts in the order of the ranks. So all that a checkpoint must keep is
    the number of steps done. ``state_dict`` and ``load_state_dict`` keep a loader's own place within an epoch.
    """

    def __init__(self, order: GlobalOrder, *, rank: int = 0, world_size: int = 1, start_step: int = 0) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank lies in 0 to world_size - 1; got rank {rank} of {world_size}.")
        if order.global_batch % world_size:
            raise UsageError(
                f"world_size must divide global_batch; got {world_size} and {order.global_batch}. "
                f"Use {either(divisors(order.global_batch))}."
            )
        if start_step < 0:
            raise UsageError(f"A step is counted from 0; got {start_step}.")
        self.order, self.rank, self.world_size, self.next_step = order, rank, world_size, start_step

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first = divmod(self.next_step, self.order.steps_per_epoch)
        samples = self.order.epoch(epoch).reshape(self.order.steps_per_epoch, self.world_size, -1)
        for within in range(first, self.order.steps_per_epoch):
            self.next_step += 1
            yield samples[within, self.rank].tolist()

    def __len__(self) -> int:
        return self.order.steps_per_epoch - self.next_step % self.order.steps_per_epoch

    def state_dict(self) -> dict[str, Any]:
        return {"next_step": self.next_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.next_step = int(state["next_step"])
