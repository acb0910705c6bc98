"""How long a step takes that ends when the slowest of n ranks has ended: the expected maximum of n."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import UsageError

__all__ = ["expected_maximum", "expected_normal_maximum"]


def expected_maximum(samples: ArrayLike, n: int) -> float:
    """E[max] of n independent draws from the samples: Σ x₍ᵢ₎·((i/m)ⁿ − ((i−1)/m)ⁿ), i = 1 … m, x sorted.

    It cannot exceed the largest sample, so it slanders nothing and flatters where n is far above m.
    """
    values = np.sort(np.asarray(samples, dtype=np.float64).ravel())
    if not len(values) or not np.isfinite(values).all() or n < 1:
        raise UsageError(
            f"An expected maximum needs finite samples and n of at least 1; got {len(values)} and n = {n}."
        )
    edges = (np.arange(len(values) + 1) / len(values)) ** n
    return float(values @ np.diff(edges))


def expected_normal_maximum(n: int, mean: float = 0.0, deviation: float = 1.0) -> float:
    """E[max] of n independent normal draws: P(max ≤ x) = Φ(x)ⁿ, integrated by quadrature.

    For n = 2 it is deviation ÷ √π above the mean, for n = 3 three halves of that; it grows as √(2·ln n).
    """
    if n < 1 or not deviation >= 0 or not math.isfinite(mean + deviation):
        raise UsageError(f"A maximum needs n of at least 1 and a deviation of at least 0; got {n} and {deviation}.")
    from scipy.special import log_ndtr

    x = np.linspace(-12.0, 12.0, 24_001)
    below = np.exp(n * log_ndtr(x))  # P(all n lie below x)
    # E[max] = 12 − ∫ P(max < x) dx from −12 to 12, by parts: beyond 12 no normal draw is ever seen
    return mean + deviation * float(12.0 - np.trapezoid(below, x))
