"""A Prometheus histogram: how many observations fell below each bound, their number and their sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labkit.errors import UsageError

__all__ = ["Histogram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """sum and upper_bounds are in the unit of the observations (seconds, tokens); cumulative_counts as Prometheus has
    them: observations at or below each bound. The last bound is infinity, its count the number of observations.
    """

    sum: float
    count: int
    upper_bounds: tuple[float, ...]
    cumulative_counts: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "upper_bounds", tuple(self.upper_bounds))
        object.__setattr__(self, "cumulative_counts", tuple(self.cumulative_counts))
        bounds, counts = self.upper_bounds, self.cumulative_counts
        if len(bounds) != len(counts) or not bounds or bounds[-1] != math.inf:
            raise UsageError(f"A histogram has a count for each bound, the last infinity; got {bounds} and {counts}.")
        if list(bounds) != sorted(set(bounds)) or list(counts) != sorted(counts) or counts[0] < 0:
            raise UsageError(f"A histogram's bounds and cumulative counts must rise; got {bounds} and {counts}.")
        if counts[-1] != self.count:
            raise UsageError(f"A histogram's last bucket holds all; got {counts[-1]} of {self.count} observations.")

    @property
    def mean(self) -> float:
        """Exact: the sum over the count; NaN when nothing was observed."""
        return self.sum / self.count if self.count else math.nan

    def quantile(self, q: float) -> float:
        """An estimate: linear inside the bucket, as if its observations lay evenly; at most a bucket wrong.

        As Prometheus' ``histogram_quantile``: the first bucket begins at 0, a quantile in the last, which has no end,
        is the highest finite bound, and it is NaN when nothing was observed. q from 0 to 1, else UsageError.
        """
        if not 0 <= q <= 1:
            raise UsageError(f"A quantile's q lies between 0 and 1; got {q}. The 99th percentile is q=0.99.")
        if not self.count:
            return math.nan
        rank = q * self.count
        index = next(i for i, below in enumerate(self.cumulative_counts) if below >= rank and below)
        upper = self.upper_bounds[index]
        if upper == math.inf:
            return self.upper_bounds[index - 1] if index else math.nan
        below = self.cumulative_counts[index - 1] if index else 0
        lower = self.upper_bounds[index - 1] if index else min(0.0, upper)
        return lower + (upper - lower) * (rank - below) / (self.cumulative_counts[index] - below)

    def __sub__(self, before: Histogram) -> Histogram:
        """What was observed since ``before``. UsageError when the buckets differ or the server began anew between."""
        if self.upper_bounds != before.upper_bounds:
            raise UsageError("Histograms with other buckets cannot be subtracted; take both from one server.")
        counts = tuple(a - b for a, b in zip(self.cumulative_counts, before.cumulative_counts, strict=True))
        if list(counts) != sorted(counts) or counts[0] < 0:
            raise UsageError(
                f"A histogram went back, from {before.count} to {self.count} observations. Subtract the earlier from "
                "the later, of one server that was not restarted between."
            )
        return Histogram(
            sum=self.sum - before.sum,
            count=self.count - before.count,
            upper_bounds=self.upper_bounds,
            cumulative_counts=counts,
        )

    def __add__(self, other: Histogram) -> Histogram:
        """Both together, as of several engines. UsageError when the buckets differ."""
        if self.upper_bounds != other.upper_bounds:
            raise UsageError("Histograms with other buckets cannot be added; take both from one kind of server.")
        return Histogram(
            sum=self.sum + other.sum,
            count=self.count + other.count,
            upper_bounds=self.upper_bounds,
            cumulative_counts=tuple(
                a + b for a, b in zip(self.cumulative_counts, other.cumulative_counts, strict=True)
            ),
        )
