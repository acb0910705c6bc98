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

_SOURCES = ("learner", "default")
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
        if self.source not in _SOURCES:
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
    """How good the guesses have been: those of ``source``, and beside them those of every source.

    hits, total: of the scored predictions; share = hits / total (NaN without any); low, high: its Wilson 95 % interval;
    expected: the share that such intervals should reach; by_source: hits and total of "learner" and of "default".
    """
    if source not in _SOURCES:
        raise UsageError(f'Predictions come from "learner" or "default"; got {source!r}.')
    frame = records.predictions()
    scored = frame[frame["hit"].notna()]
    counts = {}
    for name in _SOURCES:
        hit = scored.loc[scored["source"] == name, "hit"]
        counts[name] = {"hits": int(hit.sum()), "total": len(hit)}
    hits, total = counts[source]["hits"], counts[source]["total"]
    low, high = _wilson(hits, total)
    share = hits / total if total else math.nan
    told = {"hits": hits, "total": total, "share": share, "low": low, "high": high, "expected": COVERAGE}
    return told | {"by_source": counts}


def _wilson(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a share: Wilson (1927). Sound for few trials and at 0 and 1, where the usual one is not."""
    if not total:
        return 0.0, 1.0
    share, weight = hits / total, z * z / total
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)
