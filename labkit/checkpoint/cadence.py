"""How long to compute between two checkpoints, so that writing and lost work together cost least."""

from __future__ import annotations

import math

from labkit.errors import UsageError
from labkit.sizes import need_above_0

__all__ = ["METHODS", "optimal_interval"]

METHODS = ("exact", "young", "daly")


def optimal_interval(write_s: float, mtbf_s: float, method: str = "exact") -> float:
    """Seconds of computing between two writes, the write itself not counted.

    write_s: what one checkpoint takes; mtbf_s: mean time between failures, which come at random (exponential).
    "exact" maximises the share of useful time: M·(1 + W(−e^(−1−C/M))), W the principal branch of Lambert's function,
    which solves Daly (2006), equation 20. "young" and "daly" are the published approximations: √(2CM) of Young (1974),
    and the higher order of Daly (2006), equation 37, which is M where a write takes at least twice as long as M.
    """
    need_above_0(write_s=write_s, mtbf_s=mtbf_s)
    if method == "exact":
        return _exact(write_s, mtbf_s)
    young = math.sqrt(2 * write_s * mtbf_s)
    if method == "young":
        return young
    if method == "daly":
        if write_s >= 2 * mtbf_s:
            return mtbf_s
        root = math.sqrt(write_s / (2 * mtbf_s))
        return young * (1 + root / 3 + root**2 / 9) - write_s
    raise UsageError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")


def _exact(write_s: float, mtbf_s: float) -> float:
    """The root of 1 − u = e^(−u − C/M), u the interval ÷ M, by Newton from Young's side.

    Not by scipy's lambertw, which loses all its digits at its branch point: there a write costs next to nothing.
    """
    ratio = write_s / mtbf_s
    u = min(math.sqrt(2 * ratio), 1.0)
    for _ in range(100):
        # 1 − u − e^(−u − ratio), written so that neither a small u nor a small ratio cancels
        miss = -math.expm1(-u - ratio) - u
        step = miss / (1 - math.exp(-u - ratio))
        u += step
        if abs(step) <= 1e-15 * u:
            break
    return mtbf_s * u
