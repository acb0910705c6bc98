"""What a policy sees and what it may answer: the same in a simulation of many jobs and over one real job."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.sizes import need_above_0

__all__ = ["IDLE", "ON_DEMAND", "SPOT", "Policy", "Situation", "SpotJob", "can_try_spot", "can_wait"]

IDLE, SPOT, ON_DEMAND = 0, 1, 2  # what runs, and what a policy answers

Values = Any  # a number, or an array with one a job


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotJob:
    """work_s: computing, checkpoints included, that nothing interrupts. restart_s: from an instance to its first step.

    stretch_s: a checkpoint is complete after every so many seconds of computing, and what came since is lost when the
    instance is reclaimed; 0: the notice is long enough to save. step_s: a decision is taken that often.
    spot_price: of one second, on demand being 1.
    """

    work_s: float
    deadline_s: float
    restart_s: float
    step_s: float
    stretch_s: float = 0.0
    spot_price: float = 0.3

    def __post_init__(self) -> None:
        need_above_0(work_s=self.work_s, deadline_s=self.deadline_s, step_s=self.step_s)
        for name in ("restart_s", "stretch_s", "spot_price"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be finite and at least 0; got {getattr(self, name)!r}.")
        if self.deadline_steps < self.work_steps + self.restart_steps:
            need_s = self.step_s * (self.work_steps + self.restart_steps)
            raise UsageError(
                f"The deadline of {self.deadline_s:g} s cannot be met: on demand alone the job takes {need_s:g} s "
                f"({self.work_s:g} s of work and {self.restart_s:g} s to start, in steps of {self.step_s:g} s). "
                "Give it that much time, or less work."
            )

    @property
    def work_steps(self) -> int:
        return math.ceil(self.work_s / self.step_s - 1e-9)

    @property
    def restart_steps(self) -> int:
        return math.ceil(self.restart_s / self.step_s - 1e-9)

    @property
    def stretch_steps(self) -> int:
        return math.ceil(self.stretch_s / self.step_s - 1e-9)

    @property
    def deadline_steps(self) -> int:
        return math.floor(self.deadline_s / self.step_s + 1e-9)

    @property
    def on_demand_cost(self) -> float:
        """In seconds of on-demand price: the whole job, started once."""
        return self.step_s * (self.work_steps + self.restart_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Before one step, of one job (numbers) or of many (arrays).

    work_left_s: what is still to be computed; at_risk_s: what a reclaim now would add to it. available: spot can be had
    for the coming step. running: IDLE, SPOT or ON_DEMAND; start_left_s: until that instance computes.
    """

    job: SpotJob
    time_left_s: Values
    work_left_s: Values
    at_risk_s: Values
    available: Values
    running: Values
    start_left_s: Values


Policy = Callable[[Situation], NDArray[np.int64]]  # IDLE, SPOT or ON_DEMAND, one a job; SPOT only where available


def can_wait(now: Situation) -> Values:
    """Whether one step may pass without a gain, and an on-demand instance still makes the deadline after it."""
    return _slack_s(now) >= now.job.restart_steps * now.job.step_s + now.job.step_s - 1e-6 * now.job.step_s


def can_try_spot(now: Situation) -> Values:
    """Whether a spot instance may be started, reclaimed before its first step, and the deadline still be met."""
    return _slack_s(now) >= (2 * now.job.restart_steps + 1 - 1e-6) * now.job.step_s


def _slack_s(now: Situation) -> Values:
    return now.time_left_s - now.work_left_s - now.at_risk_s
