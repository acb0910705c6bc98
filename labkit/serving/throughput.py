"""Throughput against concurrency: a decode step costs a fixed part, the weights, and a part for each sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import UsageError

__all__ = ["StepTime", "fit_step_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """step time = fixed_s + per_sequence_s · batch. ``error``: the fit's median relative error on its own points."""

    fixed_s: float
    per_sequence_s: float
    error: float

    def step_s(self, batch: float) -> float:
        """Seconds of one decode step with ``batch`` sequences in it."""
        return self.fixed_s + self.per_sequence_s * batch

    def tokens_per_s(self, batch: float) -> float:
        return batch / self.step_s(batch)

    @property
    def ceiling_tokens_per_s(self) -> float:
        """What no batch exceeds; infinite where the fit saw no cost a sequence."""
        return 1 / self.per_sequence_s if self.per_sequence_s else float("inf")

    @property
    def half_batch(self) -> float:
        """The batch at which half the ceiling is reached: both parts of the step cost the same."""
        return self.fixed_s / self.per_sequence_s if self.per_sequence_s else float("inf")


def fit_step_time(batches: ArrayLike, step_times_s: ArrayLike) -> StepTime:
    """Fit both parts, each at least 0, by least squares of relative errors. UsageError for fewer than two batches."""
    from scipy.optimize import nnls

    batch = np.asarray(batches, dtype=np.float64).ravel()
    times = np.asarray(step_times_s, dtype=np.float64).ravel()
    if batch.shape != times.shape:
        raise UsageError(f"A step-time fit needs one time a batch; got {len(batch)} batches and {len(times)} times.")
    if len(np.unique(batch)) < 2:
        raise UsageError(f"A step-time fit needs at least two different batches; got {sorted(set(batch.tolist()))}.")
    if not (np.isfinite(times).all() and (times > 0).all() and (batch >= 1).all()):
        raise UsageError("A step-time fit needs batches of at least 1 and times above 0 s.")
    shares = np.column_stack((1 / times, batch / times))  # each row ÷ its time: the errors become relative
    (fixed, per_sequence), _ = nnls(shares, np.ones(len(times)))
    fit = StepTime(fixed_s=float(fixed), per_sequence_s=float(per_sequence), error=0.0)
    errors = np.abs(np.array([fit.step_s(b) for b in batch]) / times - 1)
    return StepTime(fixed_s=fit.fixed_s, per_sequence_s=fit.per_sequence_s, error=float(np.median(errors)))
