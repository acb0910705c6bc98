"""Thresholds, fixed on healthy runs before a faulty one is looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.errors import UsageError

__all__ = ["Thresholds", "fix_threshold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Of the monitors that need one. The others compare for equality. Infinite: watch, and never alert."""

    straggler: float = math.inf
    loss: float = math.inf
    gradient: float = math.inf


def fix_threshold(healthy_peaks: Sequence[float], *, margin: float = 0.25, at_least: float = 0.0) -> float:
    """The largest sum of any healthy run, and a margin of it for what these runs have not shown.

    Without a margin, a run that was not among n passes the largest of them with probability 1 ÷ (n + 1): each is as
    likely to be the largest of the n + 1. One false alarm in 50 runs needs 49 healthy ones, and the margin is on top.
    at_least: what one value can add (`Cusum.most_at_once`), where a single wild step must not be an alert.
    """
    if not healthy_peaks or not all(math.isfinite(peak) and peak >= 0 for peak in healthy_peaks):
        raise UsageError(
            f"A threshold is fixed on the finite peaks of healthy runs; got {len(healthy_peaks)} of them. "
            "Run some, with other seeds than those that will be judged."
        )
    if not (0 <= margin < math.inf and 0 <= at_least < math.inf):
        raise UsageError(f"A margin and a least threshold are finite and at least 0; got {margin} and {at_least}.")
    threshold = max((1 + margin) * max(healthy_peaks), at_least)
    if not threshold:
        raise UsageError(
            "No healthy sum ever left 0, so nothing tells how large one may be. Say at_least, or run longer."
        )
    return threshold
