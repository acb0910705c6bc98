"""Our policy: the cheapest decision for every time left and work left, were availability a two-state Markov chain.

The chain's two rates come from a past trace. Where they are wrong the policy costs more; the deadline does not rest on
them, because `guarded` is behind it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.spot.policies import guarded
from labkit.spot.situation import IDLE, ON_DEMAND, SPOT, Policy, Situation, SpotJob

__all__ = ["fit_chain", "plan_decisions", "planned_policy"]

_NEVER = 1e12  # the price of a missed deadline

Floats = NDArray[np.float64]


def fit_chain(steps: NDArray[np.bool_]) -> tuple[float, float]:
    """(chance that a step with spot is followed by one without, chance of the other way), from a past trace: (steps,).

    One change of each kind is added to what was seen, so that neither is ever 0 (Laplace's rule).
    """
    if steps.ndim != 1 or len(steps) < 2:
        raise UsageError(f"A chain is fitted to a trace of at least two steps; got the shape {steps.shape}.")
    before, after = steps[:-1], steps[1:]
    falls, rises = np.sum(before & ~after), np.sum(~before & after)
    return float((falls + 1) / (before.sum() + 2)), float((rises + 1) / ((~before).sum() + 2))


def plan_decisions(job: SpotJob, fall: float, rise: float) -> NDArray[np.int8]:
    """The best answer by (steps left, work steps left, available, what runs). (T + 1, W + 1, 2, 3 + 2 · restart)

    What runs: IDLE, SPOT, ON_DEMAND, then spot with 1, 2, … steps of its start left, then on demand so. Backwards in
    time (Bellman): a state's value is the money still to be paid, in steps of on demand. Half a stretch is what a
    reclaim loses.
    """
    if not (0 < fall <= 1 and 0 < rise <= 1):
        raise UsageError(f"fall and rise must be chances above 0, at most 1; got {fall!r} and {rise!r}.")
    num_steps, work, restart = job.deadline_steps, job.work_steps, job.restart_steps
    spots = [SPOT, *range(3, 3 + restart)]  # by steps of the start that are left
    ons = [ON_DEMAND, *range(3 + restart, 3 + 2 * restart)]
    chain = np.array([[1 - rise, rise], [fall, 1 - fall]])  # row: available now; column: in the next step
    after = np.full((work + 1, 2, 3 + 2 * restart), _NEVER)  # the values one step later
    after[0] = 0.0
    best = np.full((num_steps + 1, *after.shape), ON_DEMAND, dtype=np.int8)
    fewer = np.maximum(np.arange(work + 1) - 1, 0)
    lost = np.minimum(fewer + job.stretch_steps // 2, work)
    for left in range(1, num_steps + 1):
        slack = left - np.arange(work + 1)
        waits, tries = slack >= restart + 1, slack >= 2 * restart + 1  # what `guarded` lets through
        idle = np.where(waits[:, None], np.einsum("wn,an->wa", after[:, :, IDLE], chain), _NEVER)  # (W + 1, 2)
        on, spot = [], []
        for to_go in range(restart + 1):
            to, kept = max(to_go - 1, 0), np.arange(work + 1) if to_go else fewer
            on.append(1.0 + after[kept][:, :, ons[to]] @ chain.T)  # (W + 1, 2)
            struck = after[kept if to_go else lost, 0, IDLE]
            money = job.spot_price + (1 - fall) * after[kept, 1, spots[to]] + fall * struck
            spot.append(np.where(waits, money, _NEVER))  # (W + 1,)
        new_spot = np.where(tries, spot[restart], _NEVER)
        value = np.full_like(after, _NEVER)
        for running in range(3 + 2 * restart):
            on_now = on[ons.index(running)] if running in ons else on[restart]
            spot_now = np.full((work + 1, 2), _NEVER)
            spot_now[:, 1] = spot[spots.index(running)] if running in spots else new_spot
            answers = np.stack([idle, spot_now, on_now])  # (3, W + 1, 2)
            best[left, :, :, running] = np.argmin(answers, axis=0)
            value[:, :, running] = np.minimum(answers.min(axis=0), _NEVER)
        value[0] = 0.0
        best[left][value >= _NEVER / 2] = ON_DEMAND
        after = value
    return best


def planned_policy(job: SpotJob, fall: float, rise: float) -> Policy:
    """The plan as a policy, for this job alone."""
    best = plan_decisions(job, fall, rise)

    def planned(now: Situation) -> NDArray[np.int64]:
        if now.job != job:
            raise UsageError("This plan was made for another job. Make one with planned_policy for this job.")
        left = np.clip(np.floor(now.time_left_s / job.step_s + 1e-6), 0, best.shape[0] - 1).astype(int)
        work = np.clip(np.ceil(now.work_left_s / job.step_s - 1e-6), 0, best.shape[1] - 1).astype(int)
        to_go = np.clip(np.ceil(now.start_left_s / job.step_s - 1e-6), 0, job.restart_steps).astype(int)
        running = np.asarray(now.running)
        starting = np.where(running == SPOT, 2 + to_go, 2 + job.restart_steps + to_go)
        running = np.where((to_go > 0) & (running != IDLE), starting, running)
        return guarded(now, best[left, work, np.asarray(now.available).astype(int), running].astype(np.int64))

    return planned
