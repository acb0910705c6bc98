"""A rank that is slower than the others and stays so."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import UsageError
from labkit.monitors.alert import Alert
from labkit.monitors.cusum import Cusum

__all__ = ["StragglerMonitor", "durations_s"]

# What one step may add: a hiccup that doubles a step counts for no more than a step half as long again.
CLIP = math.log(1.5)
KEPT = 100  # steps of evidence at most, the latest


class StragglerMonitor:
    """Watches what each rank takes for its own part of a step, before it waits for the others.

    The whole step is no use: a synchronous step lasts equally long on all ranks, and accuses nobody. Each rank's time
    is divided by the lower median of the ranks in the same step, so that what slows all of them (a long batch, a busy
    machine) slows none; the logarithms are summed up by `Cusum`, one a rank.

    smallest: the slowdown that is worth an alert; half of its logarithm is the slack.
    """

    def __init__(self, num_ranks: int, *, threshold: float, smallest: float = 1.3) -> None:
        if num_ranks < 2 or not 1 < smallest < math.inf:
            raise UsageError(
                f"Stragglers are found among at least 2 ranks, by a slowdown above 1; got {num_ranks} and {smallest}."
            )
        slack = math.log(smallest) / 2
        self.sums = [Cusum(threshold=threshold, slack=slack, clip=max(CLIP, 2 * slack)) for _ in range(num_ranks)]
        self._evidence: list[list[float]] = [[] for _ in range(num_ranks)]  # logarithms since each sum last was 0

    @property
    def peak(self) -> float:
        """The largest that any rank's sum has been."""
        return max(one.peak for one in self.sums)

    def update(self, step: int, times_s: Sequence[float] | NDArray[np.float64]) -> list[Alert]:
        """times_s: (ranks,) seconds of each rank's own part of this step. UsageError: not finite, or not above 0."""
        times = _checked(times_s, len(self.sums))
        typical = float(np.sort(times)[(len(times) - 1) // 2])
        logs = np.log(times / typical)
        alerts = []
        for rank, one in enumerate(self.sums):
            alerted, recent = one.add(float(logs[rank])), self._evidence[rank]
            recent.append(float(logs[rank]))
            del recent[: -KEPT if one.value else None]
            if alerted:
                slowdown = math.exp(float(np.median(recent)))
                told = f"{slowdown:.2f}× the ranks' median over {len(recent)} steps"
                evidence = {
                    "sum": one.value, "threshold": one.threshold, "slowdown": slowdown, "times_s": times.tolist(),
                }  # fmt: skip
                alerts.append(
                    Alert(monitor="straggler", step=step, where=f"rank {rank}", message=told, evidence=evidence)
                )
        return alerts


def durations_s(start_s: ArrayLike, end_s: ArrayLike) -> NDArray[np.float64]:
    """Seconds between timestamps, element by element. UsageError: one is not a number, or an end before its start."""
    starts, ends = np.asarray(start_s, dtype=np.float64), np.asarray(end_s, dtype=np.float64)
    if starts.shape != ends.shape:
        raise UsageError(f"Each start needs its end; got shapes {starts.shape} and {ends.shape}.")
    for name, stamps in (("start", starts), ("end", ends)):
        if not np.isfinite(stamps).all():
            where = np.argwhere(~np.isfinite(stamps))[0].tolist()
            raise UsageError(
                f"Timestamps must be finite; got {stamps[tuple(where)]} as the {name} at {where}. A rank whose clock "
                "gives none is not watched: mend its clock, or leave the rank out."
            )
    if (ends < starts).any():
        where = np.argwhere(ends < starts)[0].tolist()
        raise UsageError(
            f"A step ends after its start; at {where} it ends {(starts - ends)[tuple(where)]:g} s before. "
            "Take both from one monotonic clock."
        )
    return ends - starts


def _checked(times_s: Sequence[float] | NDArray[np.float64], num_ranks: int) -> NDArray[np.float64]:
    times = np.asarray(times_s, dtype=np.float64)
    if times.shape != (num_ranks,):
        raise UsageError(f"One time a rank is needed, {num_ranks} of them; got shape {times.shape}.")
    for rank, time_s in enumerate(times):
        if not 0 < time_s < math.inf:
            raise UsageError(
                f"Step times must be finite and above 0 s; got {time_s} from rank {rank}. A rank whose clock gives "
                "none is not watched: mend its clock, or leave the rank out."
            )
    return times
