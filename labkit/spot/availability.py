"""When spot capacity was there: a trace, read from public formats, generated, or cut into steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.sizes import need_above_0

__all__ = ["Availability", "generate_availability", "job_windows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """up: (start_s, end_s) of every stretch in which an instance could be had, in order, within 0 to span_s."""

    up: tuple[tuple[float, float], ...]
    span_s: float
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "up", tuple((float(start), float(end)) for start, end in self.up))
        if not 0 < self.span_s < math.inf:
            raise UsageError(f"A trace needs a span above 0 seconds; got {self.span_s!r}.")
        reached = 0.0
        for number, (start, end) in enumerate(self.up):
            if not reached <= start < end <= self.span_s:  # also false for NaN
                raise UsageError(
                    f"A trace must be in order, within 0 to {self.span_s:g} s; stretch {number} goes from {start:g} to "
                    f"{end:g} s behind {reached:g} s. Sort its rows by time, and check their unit."
                )
            reached = end

    @property
    def share(self) -> float:
        """Of the whole span, the part in which an instance could be had."""
        return sum(end - start for start, end in self.up) / self.span_s

    @property
    def mean_up_s(self) -> float:
        """0 where there is none."""
        return sum(end - start for start, end in self.up) / len(self.up) if self.up else 0.0

    def is_up(self, time_s: float) -> bool:
        return any(start <= time_s < end for start, end in self.up)

    def up_until(self, time_s: float) -> float | None:
        """When the stretch that holds time_s ends; None where none does."""
        return next((end for start, end in self.up if start <= time_s < end), None)

    def sampled(self, step_s: float) -> NDArray[np.bool_]:
        """One value a step: true where the whole step is up. (steps,)"""
        if not 0 < step_s <= self.span_s:
            raise UsageError(f"step_s must lie above 0 and within the trace's {self.span_s:g} s; got {step_s!r}.")
        steps = np.zeros(math.floor(self.span_s / step_s + 1e-9), dtype=bool)
        for start, end in self.up:
            steps[math.ceil(start / step_s - 1e-9) : math.floor(end / step_s + 1e-9)] = True
        return steps


def generate_availability(mean_up_s: float, mean_down_s: float, span_s: float, *, seed: int) -> Availability:
    """Up and down in turns, each stretch drawn from an exponential distribution; it begins as by chance."""
    need_above_0(mean_up_s=mean_up_s, mean_down_s=mean_down_s, span_s=span_s)
    rng = np.random.default_rng(seed)
    now, up, stretches = 0.0, bool(rng.random() < mean_up_s / (mean_up_s + mean_down_s)), []
    while now < span_s:
        end = now + float(rng.exponential(mean_up_s if up else mean_down_s))
        if up and min(end, span_s) > now:
            stretches.append((now, min(end, span_s)))
        now, up = end, not up
    told = f"generated: mean up {mean_up_s:g} s, mean down {mean_down_s:g} s, seed {seed}"
    return Availability(up=tuple(stretches), span_s=span_s, source=told)


def job_windows(steps: NDArray[np.bool_], num_jobs: int, num_steps: int, *, seed: int) -> NDArray[np.bool_]:
    """What ``num_jobs`` jobs that start at random moments of one trace see. (num_jobs, num_steps)

    steps: (trace steps,), as `Availability.sampled` gives it.
    """
    if num_jobs < 1 or not 1 <= num_steps <= len(steps):
        raise UsageError(
            f"A job of {num_steps} steps does not fit into a trace of {len(steps)}, or no job was asked for "
            f"(num_jobs = {num_jobs}). Take a longer trace or a nearer deadline."
        )
    starts = np.random.default_rng(seed).integers(0, len(steps) - num_steps + 1, num_jobs)
    windows: Any = np.lib.stride_tricks.sliding_window_view(steps, num_steps)
    chosen: NDArray[np.bool_] = windows[starts]
    return chosen
