"""Many jobs under one policy, step by step, all at once: what each paid, when it was done, how often it was stopped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.spot.situation import IDLE, ON_DEMAND, SPOT, Policy, Situation, SpotJob

__all__ = ["Simulation", "simulate_jobs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """One value a job. cost: in seconds of on-demand price. finished_s: NaN where the deadline came first.

    held: IDLE, SPOT or ON_DEMAND in every step, (jobs, steps) where asked for, else (0, 0).
    """

    job: SpotJob
    cost: Floats
    finished_s: Floats
    reclaims: NDArray[np.int64]
    lost_s: Floats
    starts: NDArray[np.int64]
    held: NDArray[np.int8]

    @property
    def missed(self) -> int:
        return int(np.isnan(self.finished_s).sum())

    def gap_closed(self, optimum: Floats) -> Floats:
        """(on demand − this) ÷ (on demand − optimum), of the money of each job; NaN where the optimum saves nothing."""
        room = self.job.on_demand_cost - optimum
        saved = self.job.on_demand_cost - self.cost
        return np.divide(saved, room, out=np.full_like(room, np.nan), where=room > 1e-9)


def simulate_jobs(job: SpotJob, windows: NDArray[np.bool_], policy: Policy, *, keep_held: bool = False) -> Simulation:
    """windows: whether spot can be had, by job and step from the job's start to its deadline. (jobs, steps)

    A reclaim falls at the start of a step. What a policy leaves of its own will is saved before.
    """
    if windows.ndim != 2 or windows.shape[1] < job.deadline_steps:
        raise UsageError(
            f"windows must be (jobs, at least {job.deadline_steps} steps), up to the deadline; got {windows.shape}."
        )
    num_jobs, step_s = len(windows), job.step_s
    work_left, since = np.full(num_jobs, job.work_steps), np.zeros(num_jobs, dtype=np.int64)
    running, start_left = np.full(num_jobs, IDLE), np.zeros(num_jobs, dtype=np.int64)
    reclaims, starts, lost = (np.zeros(num_jobs, dtype=np.int64) for _ in range(3))
    cost, finished = np.zeros(num_jobs), np.full(num_jobs, np.nan)
    prices = np.array([0.0, job.spot_price, 1.0]) * step_s
    held = np.zeros((num_jobs, job.deadline_steps) if keep_held else (0, 0), dtype=np.int8)
    for step in range(job.deadline_steps):
        up, done = windows[:, step], work_left <= 0
        if done.all():
            break
        struck = (running == SPOT) & ~up
        reclaims, lost = reclaims + struck, lost + since * struck
        work_left = work_left + since * struck
        running, since = np.where(struck, IDLE, running), np.where(struck, 0, since)
        start_left = np.where(struck, 0, start_left)
        answer = policy(_seen(job, step, work_left, since, up, running, start_left))
        answer = np.where(done, IDLE, answer)
        if bool(np.any((answer == SPOT) & ~up)):
            raise UsageError("The policy asked for spot where none can be had. Look at `available` before SPOT.")
        new = answer != running
        started = new & (answer != IDLE)
        starts, start_left = starts + started, np.where(started, job.restart_steps, np.where(new, 0, start_left))
        running, since = answer, np.where(new, 0, since)
        cost += prices[running]
        computes = (running != IDLE) & (start_left == 0)
        start_left = np.maximum(start_left - 1, 0)
        work_left = work_left - computes
        risky = computes & (running == SPOT)
        since = np.where(risky, (since + 1) % max(1, job.stretch_steps), since)
        finished = np.where(~done & (work_left <= 0), (step + 1) * step_s, finished)
        since, running = np.where(work_left <= 0, 0, since), np.where(work_left <= 0, IDLE, running)
        if keep_held:
            held[:, step] = answer
    return Simulation(
        job=job,
        cost=cost,
        finished_s=finished,
        reclaims=reclaims,
        lost_s=(lost * step_s).astype(np.float64),
        starts=starts,
        held=held,
    )


def _seen(
    job: SpotJob,
    step: int,
    work_left: NDArray[np.int64],
    since: NDArray[np.int64],
    up: NDArray[np.bool_],
    running: NDArray[np.int64],
    start_left: NDArray[np.int64],
) -> Situation:
    at_risk = np.where(running == ON_DEMAND, 0, since)
    return Situation(
        job=job,
        time_left_s=np.full(len(up), (job.deadline_steps - step) * job.step_s),
        work_left_s=work_left * job.step_s,
        at_risk_s=at_risk * job.step_s,
        available=up,
        running=running,
        start_left_s=start_left * job.step_s,
    )
