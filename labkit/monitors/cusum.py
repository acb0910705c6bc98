"""The cumulative sum (Page 1954): small shifts that last are told from large ones that do not."""

from __future__ import annotations

import math

from labkit.errors import UsageError

__all__ = ["Cusum", "average_run_length"]

# What a sum overshoots its threshold by, at either end, in standard deviations of a normal step (Siegmund 1985)
OVERSHOOT = 1.166


class Cusum:
    """sum = max(0, sum + min(x, clip) − slack); it alerts when the sum passes the threshold.

    slack: half of the shift that matters is the quickest choice (Lorden 1971). clip: what one value may add at most, so
    that a single hiccup, however long, is no alert. The sum starts at 0; ``peak`` is the largest that it has been.
    """

    __slots__ = ("clip", "peak", "slack", "threshold", "value")

    def __init__(self, *, threshold: float, slack: float, clip: float = math.inf) -> None:
        if math.isnan(threshold) or threshold <= 0 or not math.isfinite(slack) or not clip > slack:
            raise UsageError(
                f"A cumulative sum needs a threshold above 0 and a clip above its slack; got threshold {threshold}, "
                f"slack {slack} and clip {clip}."
            )
        self.threshold, self.slack, self.clip = threshold, slack, clip
        self.value = self.peak = 0.0

    def add(self, x: float) -> bool:
        """True in the step in which the sum passes the threshold, and not again before it has been below."""
        was_over = self.value > self.threshold
        # Capped, so that a fault that has been mended is forgotten as quickly as it was found
        self.value = min(max(0.0, self.value + min(x, self.clip) - self.slack), self._cap)
        self.peak = max(self.peak, self.value)
        return self.value > self.threshold and not was_over

    @property
    def most_at_once(self) -> float:
        """What one value can add at most. A threshold of at least this is never passed by one value alone."""
        return self.clip - self.slack

    @property
    def _cap(self) -> float:
        return 2 * self.threshold if math.isfinite(self.threshold) else math.inf


def average_run_length(threshold: float, slack: float, shift: float = 0.0) -> float:
    """Steps until the sum of normal values with standard deviation 1 and mean ``shift`` passes the threshold.

    shift = 0: steps between two false alarms; shift > 0: the delay of a detection. (e^(−2Δb) + 2Δb − 1) ÷ 2Δ² with
    Δ = shift − slack and b = threshold + 1.166, b² at Δ = 0, and never below 1 (Siegmund 1985, Sequential Analysis).
    """
    if not (0 < threshold < math.inf and 0 <= slack < math.inf and math.isfinite(shift)):
        raise UsageError(
            f"A run length needs a finite threshold above 0 and a slack of at least 0; got {threshold} and {slack}, "
            f"with a shift of {shift}."
        )
    drift, reach = shift - slack, threshold + OVERSHOOT
    if abs(drift * reach) < 1e-4:  # the formula cancels there
        return reach**2
    exponent = -2 * drift * reach
    if exponent > 700:
        return math.inf
    return max(1.0, (math.exp(exponent) - exponent - 1) / (2 * drift**2))
