"""The share of the time paid for that becomes progress."""

from __future__ import annotations

import math

from labkit.errors import UsageError

__all__ = ["expected_goodput"]


def expected_goodput(interval_s: float, write_s: float, restart_s: float, mtbf_s: float) -> float:
    """Useful time ÷ elapsed time, a fraction, of a job that computes interval_s, writes for write_s, and so on.

    Failures come at random (exponential, one in mtbf_s on average, also during a write). Each loses the work since the
    last complete checkpoint and costs restart_s, which nothing interrupts. interval ÷ ((M + R)·(e^((τ + C)/M) − 1)):
    a stretch of τ + C seconds is tried e^((τ + C)/M) times on average, and its tries take M·(e^((τ + C)/M) − 1) in all
    (Daly 2006, with the restart uninterrupted).
    """
    if not (0 < interval_s < math.inf and 0 < mtbf_s < math.inf):
        raise UsageError(f"interval_s and mtbf_s must be finite and above 0; got {interval_s!r} and {mtbf_s!r}.")
    if not (0 <= write_s < math.inf and 0 <= restart_s < math.inf):
        raise UsageError(f"write_s and restart_s must be finite and at least 0; got {write_s!r} and {restart_s!r}.")
    stretch = (interval_s + write_s) / mtbf_s
    if stretch > 700:  # e to that is beyond a float: no stretch is ever finished
        return 0.0
    return interval_s / ((mtbf_s + restart_s) * math.expm1(stretch))
