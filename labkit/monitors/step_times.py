"""Step times of ranks, drawn: jitter, hiccups, and what slows all ranks at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labkit.monitors.faults import Fault

__all__ = ["draw_step_times"]


def draw_step_times(
    num_steps: int,
    num_ranks: int,
    seed: int,
    fault: Fault | None = None,
    *,
    jitter: float = 0.06,
    shared: float = 0.10,
    hiccup_share: float = 0.02,
) -> NDArray[np.float64]:
    """(steps, ranks) seconds around 1 s: log-normal jitter of each rank, a log-normal factor that all ranks of a step
    share, now and then a hiccup of two to four times. From its step on, a straggler takes ``size`` times as long."""
    rng = np.random.default_rng([seed, 77])
    own = rng.normal(0.0, jitter, (num_steps, num_ranks))
    together = rng.normal(0.0, shared, (num_steps, 1))
    times: NDArray[np.float64] = np.exp(own + together)
    hiccups = rng.random(times.shape) < hiccup_share
    times = np.where(hiccups, times * rng.uniform(2.0, 4.0, times.shape), times)
    if fault is not None and fault.kind == "straggler":
        times[fault.step :, fault.rank] *= fault.size
    return times
