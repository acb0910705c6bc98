"""A job that fails at random, second by second on paper: what the closed form of its goodput is checked against."""

from __future__ import annotations

import random

from labkit.errors import UsageError

__all__ = ["simulated_goodput"]


def simulated_goodput(
    interval_s: float, write_s: float, restart_s: float, mtbf_s: float, *, work_s: float, seed: int
) -> float:
    """Useful time ÷ elapsed time of one job of ``work_s`` seconds of computing, failures drawn from the seed.

    Each stretch computes interval_s and writes for write_s; a failure within it loses the stretch and costs restart_s.
    """
    if min(interval_s, mtbf_s, work_s) <= 0 or min(write_s, restart_s) < 0:
        raise UsageError(
            "interval_s, mtbf_s and work_s must be above 0, write_s and restart_s at least 0; got "
            f"{interval_s}, {mtbf_s}, {work_s}, {write_s} and {restart_s}."
        )
    rng = random.Random(seed)
    elapsed_s = done_s = 0.0
    while done_s < work_s:
        fails_s = rng.expovariate(1 / mtbf_s)  # no memory: drawn anew for each try
        if fails_s < interval_s + write_s:
            elapsed_s += fails_s + restart_s
        else:
            elapsed_s += interval_s + write_s
            done_s += interval_s
    return done_s / elapsed_s
