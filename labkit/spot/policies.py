"""Policies from the literature: which instance a job with a deadline should hold, now. Pure, elementwise.

Greedy and uniform progress are those of Wu et al., "Can't Be Late", NSDI 2024.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labkit.spot.situation import IDLE, ON_DEMAND, SPOT, Situation, can_try_spot, can_wait

__all__ = ["greedy", "guarded", "on_demand", "uniform_progress"]


def on_demand(now: Situation) -> NDArray[np.int64]:
    """Never spot."""
    return np.full(np.shape(now.available), ON_DEMAND)


def greedy(now: Situation) -> NDArray[np.int64]:
    """Spot or nothing, until the time left is only just enough; then on demand to the end."""
    wanted = np.where(now.available, SPOT, IDLE)
    hopeless = (now.running == IDLE) & ~can_try_spot(now)  # no room for another start of a spot instance
    return guarded(now, np.where((now.running == ON_DEMAND) | hopeless, ON_DEMAND, wanted))


def uniform_progress(now: Situation) -> NDArray[np.int64]:
    """Spot where there is one; without, on demand while progress lags behind a straight line to the deadline.

    Once on demand, until it is two restarts ahead of that line.
    """
    job = now.job
    ahead_s = np.where(now.running == ON_DEMAND, 2 * job.restart_s, 0.0)
    expected_s = (job.deadline_s - now.time_left_s + ahead_s) * job.work_s / job.deadline_s
    late = job.work_s - now.work_left_s < expected_s
    return guarded(now, np.where(now.available, SPOT, np.where(late, ON_DEMAND, IDLE)))


def guarded(now: Situation, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """``wanted``, but on demand where anything else could miss the deadline: no policy behind it ever does.

    A spot instance is started only where it could be reclaimed at its first step, and one that runs is left as soon as
    losing what is at risk would cost the deadline.
    """
    starts = (wanted == SPOT) & (now.running != SPOT)
    unsafe = ~can_wait(now) | (starts & ~can_try_spot(now))
    # On demand already: nothing to gain by a look at spot. Idle: waiting goes on while it may.
    instead = np.where(can_wait(now) & (now.running == IDLE) & can_try_spot(now), IDLE, ON_DEMAND)
    return np.where((wanted != ON_DEMAND) & unsafe, instead, wanted)
