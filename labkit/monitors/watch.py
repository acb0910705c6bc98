"""Every monitor over one job: what is handed to each, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from labkit.monitors.alert import Alert
from labkit.monitors.coverage import CoverageLedger
from labkit.monitors.divergence import DivergenceMonitor, find_non_finite
from labkit.monitors.replicas import ReplicaMonitor, checksums
from labkit.monitors.straggler import StragglerMonitor
from labkit.monitors.thresholds import Thresholds

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Watch"]


class _Sizes(Protocol):
    @property
    def num_ranks(self) -> int: ...
    @property
    def num_shards(self) -> int: ...
    @property
    def check_every(self) -> int: ...


class Watch:
    """Local facts before the reduce (who read what, who took how long, whose gradient is finite), common ones after."""

    def __init__(self, sizes: _Sizes, thresholds: Thresholds) -> None:
        self._sizes = sizes
        self.straggler = StragglerMonitor(sizes.num_ranks, threshold=thresholds.straggler)
        self.loss = DivergenceMonitor("loss", threshold=thresholds.loss)
        self.gradient = DivergenceMonitor("gradient norm", threshold=thresholds.gradient)
        self.ledger = CoverageLedger(sizes.num_shards, sizes.num_ranks)
        self.replicas = ReplicaMonitor()
        self.alerts: list[Alert] = []
        self.losses: list[float] = []
        self.norms: list[float] = []
        self._sums: list[tuple[float, float, float]] = []

    def before_reduce(
        self,
        step: int,
        reads: Sequence[tuple[int, int]],
        times_s: NDArray[np.float64],
        gradients: Mapping[str, Tensor],
    ) -> None:
        """reads: (epoch, shard) a rank; times_s: (ranks,); gradients: (ranks, …) a weight, not yet summed."""
        for rank, (epoch, shard) in enumerate(reads):
            self.alerts += self.ledger.read(step, rank, epoch, shard)
        self.alerts += self.straggler.update(step, times_s)
        for rank in range(self._sizes.num_ranks) if find_non_finite(step, gradients) else ():
            own = {name: gradient[rank] for name, gradient in gradients.items()}
            self.alerts += find_non_finite(step, own, where=f"rank {rank}")

    def after_step(self, step: int, loss: float, gradient_norm: float, weights: Mapping[str, Tensor]) -> None:
        """weights: (ranks, …), each rank's own copy after the optimizer's step."""
        self.losses.append(loss)
        self.norms.append(gradient_norm)
        self.alerts += self.loss.update(step, loss) + self.gradient.update(step, gradient_norm)
        largest = max(one.value for one in self.straggler.sums)
        self._sums.append((largest, self.loss.sum.value, self.gradient.sum.value))
        if (step + 1) % self._sizes.check_every == 0:
            copies = [{name: w[rank] for name, w in weights.items()} for rank in range(self._sizes.num_ranks)]
            self.alerts += self.replicas.update(step, [checksums(one) for one in copies])

    def finish(self, step: int) -> None:
        """At the end: the epochs for which there were steps enough."""
        steps_an_epoch = self._sizes.num_shards // self._sizes.num_ranks
        self.alerts += self.ledger.finish(step, num_epochs=(step + 1) // steps_an_epoch)

    @property
    def peaks(self) -> dict[str, float]:
        """The largest sum of each monitor that needs a threshold; what `fix_threshold` is fed with."""
        return {"straggler": self.straggler.peak, "loss": self.loss.peak, "gradient": self.gradient.peak}

    @property
    def sums(self) -> dict[str, NDArray[np.float64]]:
        """Each of those sums by step."""
        by_step = np.array(self._sums).reshape(-1, 3)
        return {name: by_step[:, index] for index, name in enumerate(("straggler", "loss", "gradient"))}
