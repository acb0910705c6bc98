"""What n devices make of a data-parallel step: compute, the ring's α-β cost, and what of it the backward hides.

step = max(compute, communication) + exposed: the buckets go over the link one after another, each as soon as it is
full; what is left on the link when the backward ends is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from labkit.errors import UsageError
from labkit.parallel.cost import ring_all_reduce_bytes
from labkit.stats import percentiles

__all__ = ["Predicted", "StepModel", "predict_efficiency"]

MOST_DEVICES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class StepModel:
    """Times of one rank that has a core to itself; bucket_bytes in the order in which the backward fills them.

    alpha_s: a step of the ring; beta_s_per_byte: a byte that a rank sends. fixed_share: what of forward and backward a
    smaller batch does not shrink. num_cores: shared by all ranks (None: each rank is a device of its own); contention:
    by how much a rank slows down when a second one computes beside it. transfer_s: what moving the gradients takes from
    a rank's own core, with two of them and however fast the link. misfit: measured ÷ modelled of a step of two ranks,
    where that is known.
    """

    forward_s: float
    backward_s: float
    update_s: float
    bucket_bytes: tuple[float, ...]
    alpha_s: float
    beta_s_per_byte: float
    fixed_share: float = 0.0
    num_cores: int | None = None
    contention: float = 1.0
    transfer_s: float = 0.0
    overlap: bool = True
    misfit: float = 1.0

    def __post_init__(self) -> None:
        times = (self.forward_s, self.backward_s, self.update_s, self.transfer_s, self.alpha_s, self.beta_s_per_byte)
        if not (np.isfinite(times).all() and min(times) >= 0 and self.forward_s + self.backward_s > 0):
            raise UsageError(f"A step's times must be finite, not negative, and its compute above 0; got {self}.")
        if not self.bucket_bytes or not min(self.bucket_bytes) >= 0:
            raise UsageError(f"bucket_bytes must name the bytes of at least one bucket; got {self.bucket_bytes!r}.")

    def slowdown(self, num_devices: int) -> float:
        """How much longer a rank computes because others share its machine: ranks ÷ cores, once cores run out."""
        if num_devices == 1 or self.num_cores is None:
            return 1.0
        return self.contention * max(1.0, num_devices / self.num_cores)

    def compute_s(self, num_devices: int, batch_share: float = 1.0) -> float:
        """Forward, backward, update and its part in transfers, of a rank with this share of the measured batch."""
        forward_s, backward_s = self._passes_s(num_devices, batch_share)
        return forward_s + backward_s + self.update_s * self.slowdown(num_devices)

    def all_reduce_s(self, num_bytes: float, num_devices: int) -> float:
        """2·(n − 1)·α + 2·(n − 1)/n·S·β."""
        return 2 * (num_devices - 1) * self.alpha_s + self.beta_s_per_byte * ring_all_reduce_bytes(
            num_bytes, num_devices
        )

    def communication_s(self, num_devices: int) -> float:
        """All buckets, as if nothing were hidden."""
        return sum(self.all_reduce_s(num_bytes, num_devices) for num_bytes in self.bucket_bytes)

    def step_s(self, num_devices: int, batch_share: float = 1.0) -> float:
        """One step. batch_share: 1 where each device keeps its batch (weak scaling), 1/n where they divide one."""
        forward_s, backward_s = self._passes_s(num_devices, batch_share)
        computed_s, total, filled, link_free_s = forward_s + backward_s, sum(self.bucket_bytes), 0.0, 0.0
        for num_bytes in self.bucket_bytes:
            filled += num_bytes
            ready_s = forward_s + backward_s * (filled / total if self.overlap and total else 1.0)
            link_free_s = max(link_free_s, ready_s) + self.all_reduce_s(num_bytes, num_devices)
        misfit = self.misfit if num_devices > 1 else 1.0
        return misfit * (max(computed_s, link_free_s) + self.update_s * self.slowdown(num_devices))

    def exposed_s(self, num_devices: int, batch_share: float = 1.0) -> float:
        """What of the step is neither forward, backward nor update."""
        return self.step_s(num_devices, batch_share) - self.compute_s(num_devices, batch_share)

    def efficiency(self, num_devices: int) -> float:
        """Weak scaling: samples per second and device against one device alone, 0 to 1."""
        return self.step_s(1) / self.step_s(num_devices)

    def speedup(self, num_devices: int) -> float:
        """Strong scaling: how many times faster the same batch is done."""
        return self.step_s(1) / self.step_s(num_devices, 1 / num_devices)

    def knee(self, budget: float) -> int:
        """The most devices, in weak scaling, whose efficiency is still within the budget, at most 2²⁰."""
        if not 0 < budget <= 1:
            raise UsageError(f"An efficiency budget lies above 0 and at most at 1; got {budget!r}. 0.8 is usual.")
        within, beyond = 1, MOST_DEVICES + 1
        while beyond - within > 1:  # efficiency only falls with more devices
            middle = (within + beyond) // 2
            within, beyond = (middle, beyond) if self.efficiency(middle) >= budget else (within, middle)
        return within

    def on_devices_of_their_own(self) -> StepModel:
        """The same ranks, none of whom shares a core with another."""
        return replace(self, num_cores=None)

    def _passes_s(self, num_devices: int, batch_share: float) -> tuple[float, float]:
        if not (num_devices >= 1 and batch_share > 0):
            raise UsageError(f"A step needs a device and a share of the batch; got {num_devices} and {batch_share}.")
        work = (self.fixed_share + (1 - self.fixed_share) * batch_share) * self.slowdown(num_devices)
        # Against the two ranks of which transfer_s is known: by the bytes, and by how the cores are shared
        sharing = self.slowdown(num_devices) / self.slowdown(2)
        transfer_s = self.transfer_s * ring_all_reduce_bytes(1, num_devices) * sharing
        return self.forward_s * work, self.backward_s * work + transfer_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Efficiency at num_devices with an interval: nine in ten of what single rounds foretell lie in it."""

    num_devices: int
    efficiency: float
    low: float
    high: float


def predict_efficiency(models: Sequence[StepModel], num_devices: int) -> Predicted:
    """From one model a round, each fitted to that round's steps alone: the median and the middle 90 % of them."""
    if not models:
        raise UsageError("A prediction needs at least one fitted round; got none.")
    low, middle, high = percentiles([model.efficiency(num_devices) for model in models], (5, 50, 95)).values()
    return Predicted(num_devices=num_devices, efficiency=middle, low=low, high=high)
