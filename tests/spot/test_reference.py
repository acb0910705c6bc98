"""The simulation against one that takes a single job in plain numbers, and the guard behind a policy that guesses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labkit import spot
from labkit.spot import IDLE, ON_DEMAND, SPOT, SpotJob
from labkit.spot.policies import guarded
from labkit.spot.situation import Policy, Situation


@dataclass
class Told:
    cost: float = 0.0
    finished_s: float = math.nan
    reclaims: int = 0
    lost: int = 0
    starting: int = 0
    computing: int = 0


def ride(job: SpotJob, up: list[bool], policy: Policy) -> Told:
    """One job. What is left by choice is saved; what is reclaimed loses its stretch."""
    told, left, since, running, start_left = Told(), job.work_steps, 0, IDLE, 0
    for step in range(job.deadline_steps):
        if running == SPOT and not up[step]:
            told.reclaims, told.lost, left = told.reclaims + 1, told.lost + since, left + since
            running, since, start_left = IDLE, 0, 0
        now = Situation(
            job=job, time_left_s=(job.deadline_steps - step) * job.step_s, work_left_s=left * job.step_s,
            at_risk_s=since * job.step_s, available=up[step], running=running, start_left_s=start_left * job.step_s,
        )  # fmt: skip
        answer = int(policy(now))
        if answer != running:
            running, since, start_left = answer, 0, job.restart_steps if answer != IDLE else 0
        told.cost += (0.0, job.spot_price, 1.0)[running] * job.step_s
        if running != IDLE and start_left:
            start_left, told.starting = start_left - 1, told.starting + 1
        elif running != IDLE:
            left, told.computing = left - 1, told.computing + 1
            since = (since + 1) % max(1, job.stretch_steps) if running == SPOT else 0
        if left == 0:
            told.finished_s = (step + 1) * job.step_s
            return told
    return told


@st.composite
def cases(draw: Any) -> tuple[SpotJob, NDArray[np.bool_]]:
    work, restart, slack = draw(st.integers(1, 30)), draw(st.integers(0, 4)), draw(st.integers(0, 25))
    job = SpotJob(
        work_s=work * 60, deadline_s=(work + restart + slack) * 60, restart_s=restart * 60, step_s=60,
        stretch_s=draw(st.integers(0, 6)) * 60, spot_price=draw(st.floats(0.05, 0.9)),
    )  # fmt: skip
    rng, share, turns = np.random.default_rng(draw(st.integers(0, 999))), draw(st.floats(0, 1)), draw(st.floats(0, 1))
    up, steps = True, []
    for _ in range(3 * job.deadline_steps):
        up = up if rng.random() > turns else bool(rng.random() < share)
        steps.append(up)
    return job, np.array(steps).reshape(3, -1)


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_the_same_policy_in_plain_numbers_and_no_second_is_left_out(case: tuple[SpotJob, NDArray[np.bool_]]) -> None:
    job, windows = case
    planned = spot.planned_policy(job, *spot.fit_chain(windows.ravel()))
    for policy in (spot.on_demand, spot.greedy, spot.uniform_progress, planned):
        ran = spot.simulate_jobs(job, windows, policy, keep_held=True)
        for index, up in enumerate(windows):
            told = ride(job, up.tolist(), policy)
            assert told.cost == pytest.approx(ran.cost[index])
            assert (told.finished_s, told.reclaims) == (ran.finished_s[index], ran.reclaims[index])
            assert told.lost * job.step_s == pytest.approx(ran.lost_s[index])
            assert told.computing == job.work_steps + told.lost  # what was computed is work, or was lost
            assert np.count_nonzero(ran.held[index]) == told.computing + told.starting


@settings(max_examples=40, deadline=None)
@given(case=cases(), seed=st.integers(0, 999))
def test_the_guard_keeps_even_a_policy_that_guesses(case: tuple[SpotJob, NDArray[np.bool_]], seed: int) -> None:
    job, windows = case
    rng = np.random.default_rng(seed)

    def guess(now: Situation) -> NDArray[np.int64]:
        wanted = rng.choice([IDLE, SPOT, ON_DEMAND], len(windows), p=[0.4, 0.5, 0.1])
        return guarded(now, np.where((wanted == SPOT) & ~now.available, IDLE, wanted))

    assert spot.simulate_jobs(job, windows, guess).missed == 0


@pytest.mark.parametrize(("stretch_s", "mtbf_s"), [(600, 3600), (300, 900)])
def test_goodput_of_simulated_jobs_is_that_of_the_closed_form(stretch_s: float, mtbf_s: float) -> None:
    step_s, work_s = 10.0, 200_000.0
    job = SpotJob(work_s=work_s, deadline_s=9 * work_s, restart_s=0, step_s=step_s, stretch_s=stretch_s)
    stays = np.random.default_rng(1).random((16, job.deadline_steps)) < math.exp(-step_s / mtbf_s)
    paid_s = spot.simulate_jobs(job, stays, spot.greedy).cost / job.spot_price
    assert work_s / paid_s.mean() == pytest.approx(spot.expected_goodput(stretch_s, 0, 0, mtbf_s), rel=0.02)
