"""What a model step costs: a fixed part, the weights, and a part for each sequence and each prompt token in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import UsageError

__all__ = ["StepTime", "fit_step_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """step time = fixed_s + per_sequence_s · sequences that decode + per_prompt_token_s · prompt tokens.

    ``error``: the fit's median relative error on its own points.
    """

    fixed_s: float
    per_sequence_s: float
    per_prompt_token_s: float = 0.0
    error: float

    def step_s(self, batch: float, prompt_tokens: float = 0) -> float:
        """Seconds of one step in which ``batch`` sequences decode and prompts of so many tokens are read."""
        return self.fixed_s + self.per_sequence_s * batch + self.per_prompt_token_s * prompt_tokens

    def tokens_per_s(self, batch: float) -> float:
        """Of steps that only decode."""
        return batch / self.step_s(batch)

    @property
    def ceiling_tokens_per_s(self) -> float:
        """What no batch exceeds; infinite where the fit saw no cost a sequence."""
        return 1 / self.per_sequence_s if self.per_sequence_s else float("inf")

    @property
    def half_batch(self) -> float:
        """The batch at which half the ceiling is reached: both parts of the step cost the same."""
        return self.fixed_s / self.per_sequence_s if self.per_sequence_s else float("inf")


def fit_step_time(batches: ArrayLike, step_times_s: ArrayLike, prompt_tokens: ArrayLike | None = None) -> StepTime:
    """Fit all parts, each at least 0, by least squares of relative errors; without prompt_tokens, two of them.

    UsageError for steps too few or too much alike to tell the parts apart.
    """
    from scipy.optimize import nnls

    times = np.asarray(step_times_s, dtype=np.float64).ravel()
    parts = [np.ones_like(times), np.asarray(batches, dtype=np.float64).ravel()]
    parts += [np.asarray(prompt_tokens, dtype=np.float64).ravel()] if prompt_tokens is not None else []
    if any(part.shape != times.shape for part in parts):
        came = " and ".join(str(len(part)) for part in parts[1:])
        raise UsageError(f"A step-time fit needs a batch for every time; got {came} for {len(times)} times.")
    if not (np.isfinite(times).all() and (times > 0).all() and all((part >= 0).all() for part in parts)):
        raise UsageError("A step-time fit needs batches of at least 0 and times above 0 s.")
    columns = np.column_stack(parts)
    if np.linalg.matrix_rank(columns) < len(parts):
        raise UsageError(
            f"A step-time fit of {len(parts)} parts needs steps that differ in each; got {len(times)} steps of "
            f"{len(np.unique(columns, axis=0))} kinds."
        )
    found, _ = nnls(columns / times[:, None], np.ones(len(times)))  # each row ÷ its time: the errors become relative
    error = float(np.median(np.abs(columns @ found / times - 1)))
    named = dict(zip(("fixed_s", "per_sequence_s", "per_prompt_token_s"), map(float, found), strict=False))
    return StepTime(**named, error=error)
