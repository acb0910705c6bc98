"""The roofline: a step takes as long as its arithmetic or its memory traffic, whichever is longer.

Williams, Waterman, Patterson: "Roofline" (CACM 52(4), 2009), with a fixed overhead a step added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.stats import median_relative_error

__all__ = ["Roofline", "fit_roofline", "matmul_bytes", "matmul_flops", "score_roofline"]


def matmul_flops(m: int, k: int, n: int) -> int:
    """FLOPs of (m, k) @ (k, n): a multiplication and an addition for each of m·k·n products."""
    return 2 * m * k * n


def matmul_bytes(m: int, k: int, n: int, bytes_per_element: float) -> float:
    """Bytes that (m, k) @ (k, n) must move: each operand read once, the result written once."""
    return bytes_per_element * (m * k + k * n + m * n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Two ceilings, and what every step costs besides (a kernel launch, a Python call)."""

    peak_flops_per_s: float
    bandwidth_bytes_per_s: float
    overhead_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.peak_flops_per_s > 0 and self.bandwidth_bytes_per_s > 0 and self.overhead_s >= 0):
            raise UsageError(f"A roofline needs two positive ceilings and an overhead of at least 0; got {self}.")

    @property
    def knee_flops_per_byte(self) -> float:
        """The intensity at which the limit moves from memory to arithmetic."""
        return self.peak_flops_per_s / self.bandwidth_bytes_per_s

    def compute_s(self, flops: float) -> float:
        return flops / self.peak_flops_per_s

    def memory_s(self, num_bytes: float) -> float:
        return num_bytes / self.bandwidth_bytes_per_s

    def time_s(self, flops: float, num_bytes: float) -> float:
        """Seconds of a step with this much work and traffic."""
        return max(self.compute_s(flops), self.memory_s(num_bytes)) + self.overhead_s

    def attainable(self, intensity: float) -> float:
        """FLOP/s that a kernel of this intensity (FLOPs a byte) can reach at best."""
        return min(self.peak_flops_per_s, self.bandwidth_bytes_per_s * intensity)

    def limit(self, intensity: float) -> Literal["memory", "compute"]:
        return "compute" if intensity >= self.knee_flops_per_byte else "memory"


def fit_roofline(
    flops: Sequence[float], num_bytes: Sequence[float], times_s: Sequence[float], *, overhead: bool = True
) -> Roofline:
    """The roofline whose times are nearest to the measured ones, by relative error and robustly (soft L1).

    Three equally long sequences, at least four points. A point is worth the same whether it took 1 µs or 1 s.
    overhead: whether to look for a fixed time a step. Leave it out where the traffic hardly changes from point to point
    (one layer at several batches): a constant time and a constant traffic cannot be told apart.
    """
    work, traffic, times = (np.asarray(values, dtype=np.float64) for values in (flops, num_bytes, times_s))
    if not len(work) == len(traffic) == len(times) or len(times) < 4:
        raise UsageError(
            "A roofline is fitted to at least 4 points; "
            f"got {len(work)} FLOPs, {len(traffic)} bytes, {len(times)} times."
        )
    if not (np.isfinite(times).all() and (work > 0).all() and (traffic > 0).all() and (times > 0).all()):
        raise UsageError("A roofline is fitted to positive FLOPs, bytes and times; got one that is not.")
    from scipy.optimize import least_squares

    def off(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        ceilings = np.exp(parameters)
        predicted = np.maximum(work / ceilings[0], traffic / ceilings[1]) + (ceilings[2] if overhead else 0.0)
        return np.asarray(np.log(predicted / times))

    fastest, widest = math.log((work / times).max()), math.log((traffic / times).max())
    smallest = math.log(times.min())
    # The valley has more than one bottom where few points lie on one side of the knee: start on both sides.
    starts = [(fastest, widest + shift, smallest + math.log(share)) for shift in (0.0, 0.7) for share in (0.01, 0.5)]
    fits = [least_squares(off, start[: 2 + overhead], loss="soft_l1", f_scale=0.05) for start in starts]
    found = [float(value) for value in np.exp(min(fits, key=lambda fit: float(fit.cost)).x)]
    return Roofline(peak_flops_per_s=found[0], bandwidth_bytes_per_s=found[1], overhead_s=found[2] if overhead else 0.0)


def score_roofline(
    roofline: Roofline, flops: Sequence[float], num_bytes: Sequence[float], times_s: Sequence[float]
) -> float:
    """Median relative error of the predicted times; give it points that the fit has not seen."""
    predicted = [roofline.time_s(work, traffic) for work, traffic in zip(flops, num_bytes, strict=True)]
    return median_relative_error(predicted, times_s)
