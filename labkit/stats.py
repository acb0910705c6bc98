"""Statistics of repeated measurements: medians with intervals that assume no distribution. numpy only.

Each file of the ground stands alone, so what cannot be meant is a plain ValueError here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Interval",
    "bootstrap_interval",
    "median_interval",
    "median_relative_error",
    "percentile",
    "percentiles",
    "ratio_interval",
    "relative_spread",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """low <= high, in the samples' unit; coverage: the probability with which such intervals hold the true value."""

    low: float
    high: float
    coverage: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"An interval goes from low to high; got {self.low} to {self.high}.")

    @property
    def width(self) -> float:
        return self.high - self.low

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def _samples(values: ArrayLike) -> Array:
    samples = np.asarray(values, dtype=np.float64).ravel()
    if not len(samples):
        raise ValueError("At least one sample is needed; got none. Repeat the measurement.")
    if not np.isfinite(samples).all():
        raise ValueError(f"Samples must be finite; got {samples[~np.isfinite(samples)][0]}.")
    return samples


def _checked_coverage(coverage: float) -> float:
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must lie between 0 and 1; got {coverage}. 0.95 is usual.")
    return coverage


def median_interval(samples: ArrayLike, coverage: float = 0.95) -> Interval:
    """An interval for the median from order statistics, exact for every continuous distribution.

    The number of samples below the true median is Binomial(n, 1/2), so [x_(k), x_(n+1-k)] covers it with probability
    1 - 2·P(X < k). The narrowest pair that reaches ``coverage`` is taken; with too few samples the whole range, and
    the coverage that it really has (n = 5: 93.75 %).
    """
    ordered = np.sort(_samples(samples))
    skipped, reached = _ranks(len(ordered), _checked_coverage(coverage))
    return Interval(low=float(ordered[skipped]), high=float(ordered[-1 - skipped]), coverage=reached)


def _ranks(n: int, coverage: float) -> tuple[int, float]:
    """How many order statistics to leave out at each end, and the coverage that is left.

    Grown from the middle, which takes about sqrt(n) steps. Not by scipy.stats, which alone imports for longer.
    """
    skipped = (n - 1) // 2
    if n <= 10_000:
        chance = math.comb(n, skipped) / 2**n  # P(X = skipped)
    else:  # the exact integers would have n bits; this is good to nine digits at n = a million
        log_ways = math.lgamma(n + 1) - math.lgamma(skipped + 1) - math.lgamma(n - skipped + 1)
        chance = math.exp(log_ways - n * math.log(2))
    reached = 0.0 if n % 2 else chance * (n - skipped) / (skipped + 1)
    while skipped and reached < coverage:
        reached += 2 * chance
        chance *= skipped / (n - skipped + 1)
        skipped -= 1
    return skipped, reached


def percentile(samples: ArrayLike, q: float) -> float:
    """The q-th percentile (0 to 100), linear between order statistics."""
    if not 0 <= q <= 100:
        raise ValueError(f"A percentile's q lies between 0 and 100; got {q}.")
    return float(np.percentile(_samples(samples), q))


def percentiles(samples: ArrayLike, qs: Sequence[float] = (50, 95, 99)) -> dict[float, float]:
    """Several percentiles at once, by their q."""
    return {q: percentile(samples, q) for q in qs}


def bootstrap_interval(
    samples: ArrayLike,
    statistic: Callable[[Array], float],
    *,
    rng: np.random.Generator,
    coverage: float = 0.95,
    num_resamples: int = 2000,
) -> Interval:
    """Percentile bootstrap of any statistic of independent samples (Efron 1979)."""
    values = _samples(samples)
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1; got {num_resamples}. 2000 is usual.")
    picks = rng.integers(0, len(values), size=(num_resamples, len(values)))
    return _middle([statistic(values[pick]) for pick in picks], coverage)


def ratio_interval(
    a: ArrayLike, b: ArrayLike, *, rng: np.random.Generator, paired: bool = False, coverage: float = 0.95
) -> tuple[float, Interval]:
    """Ratio of medians a / b, and its interval.

    paired: a[i] and b[i] were taken side by side (A B A B); then the ratio is the median of a[i] / b[i], which a
    machine that drifts between rounds does not move.
    """
    first, second = _samples(a), _samples(b)
    if (second <= 0).any():
        raise ValueError("A ratio needs positive samples below the line; got one that is zero or less.")
    if paired:
        if len(first) != len(second):
            raise ValueError(f"Paired samples must be equally many; got {len(first)} and {len(second)}.")
        ratios = first / second
        return float(np.median(ratios)), median_interval(ratios, coverage)
    resampled = [
        np.median(rng.choice(first, len(first))) / np.median(rng.choice(second, len(second))) for _ in range(2000)
    ]
    return float(np.median(first) / np.median(second)), _middle(resampled, coverage)


def _middle(values: Sequence[float] | Sequence[np.floating], coverage: float) -> Interval:
    ends = [50 * (1 - _checked_coverage(coverage)), 50 * (1 + coverage)]
    low, high = np.percentile(np.asarray(values, dtype=np.float64), ends)
    return Interval(low=float(low), high=float(high), coverage=coverage)


def relative_spread(samples: ArrayLike) -> float:
    """Interquartile range divided by the median: 0.1 means that half of the samples lie within about 5 % of it."""
    low, middle, high = np.percentile(_samples(samples), [25, 50, 75])
    return float((high - low) / abs(middle)) if middle else float("inf")


def median_relative_error(predicted: ArrayLike, measured: ArrayLike) -> float:
    """Median of |predicted - measured| / |measured| over pairs."""
    guess, truth = _samples(predicted), _samples(measured)
    if len(guess) != len(truth):
        raise ValueError(f"Predicted and measured must be equally many; got {len(guess)} and {len(truth)}.")
    if not truth.all():
        raise ValueError("A relative error needs measured values other than zero; got one that is zero.")
    return float(np.median(np.abs(guess - truth) / np.abs(truth)))
