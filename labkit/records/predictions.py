"""Predictions: a guess made before the measurement, as an interval, and how good such guesses have been so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from labkit.errors import UsageError
from labkit.measure import Figure

if TYPE_CHECKING:
    from labkit.records.store import Records

__all__ = ["COVERAGE", "Prediction", "Score", "calibration", "grade"]

COVERAGE = 0.8  # the share of a good guesser's intervals that hold the figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """low to high, in ``unit``, should hold the figure four times out of five. source: "learner", or "default" where
    nobody was there to guess."""

    id: str
    question: str
    unit: str
    low: float
    high: float
    source: Literal["learner", "default"] = "learner"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise UsageError(f"A prediction goes from a smaller to a larger number; got {self.low} to {self.high}.")
        if self.source not in ("learner", "default"):
            raise UsageError(f'A prediction\'s source is "learner" or "default"; got {self.source!r}.')


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """hit: the figure lay inside; off_by: the factor (>= 1) between the interval's middle and the figure."""

    prediction: Prediction
    figure: Figure
    hit: bool
    off_by: float


def grade(prediction: Prediction, figure: Figure) -> Score:
    """Hold a prediction against the figure. The middle is the geometric one where all numbers are positive."""
    low, high, value = prediction.low, prediction.high, figure.value
    if low > 0 and value > 0:
        ratio = value / math.sqrt(low * high)
        off_by = max(ratio, 1 / ratio)
    else:  # no factor exists across zero: distance in half-widths of the interval instead
        off_by = 1 + abs(value - (low + high) / 2) / (max(high - low, 1e-12) / 2)
    return Score(prediction=prediction, figure=figure, hit=low <= value <= high, off_by=off_by)


def calibration(records: Records, source: str = "learner") -> dict[str, Any]:
    """hits, total, share of scored predictions from ``source``, and the Wilson 95 % interval of that share."""
    frame = records.predictions()
    scored = frame[(frame["source"] == source) & frame["hit"].notna()]
    hits, total = int(scored["hit"].sum()), len(scored)
    z = 1.96
    share = hits / total if total else float("nan")
    low, high = 0.0, 1.0
    if total:  # Wilson (1927)
        middle = (share + z * z / (2 * total)) / (1 + z * z / total)
        half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
        low, high = middle - half, middle + half
    return {"hits": hits, "total": total, "share": share, "low": low, "high": high, "expected": COVERAGE}
