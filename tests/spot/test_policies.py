"""Policies, the simulation and the optimum, against each other, against all sequences there are, and by hand."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.spot import (
    IDLE,
    ON_DEMAND,
    SPOT,
    SpotJob,
    fit_chain,
    generate_availability,
    greedy,
    job_windows,
    on_demand,
    optimal_cost,
    planned_policy,
    simulate_jobs,
    uniform_progress,
)
from labkit.spot.situation import Policy, Situation

H = 3600.0
SMALL = SpotJob(work_s=3, deadline_s=7, restart_s=1, step_s=1, spot_price=0.3)


def scripted(answers: tuple[int, ...], job: SpotJob) -> Policy:
    def policy(now: Situation) -> np.ndarray:
        wanted = answers[round(job.deadline_s - float(now.time_left_s[0]))]
        return np.where((wanted == SPOT) & ~now.available, IDLE, wanted)

    return policy


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_the_best_of_all_sequences(seed: int) -> None:
    windows = np.random.default_rng(seed).random((1, 7)) < 0.7
    costs = []
    for answers in itertools.product((IDLE, SPOT, ON_DEMAND), repeat=7):
        tried = simulate_jobs(SMALL, windows, scripted(answers, SMALL))
        costs += [float(tried.cost[0])] if not tried.missed else []
    assert optimal_cost(SMALL, windows)[0] == pytest.approx(min(costs))


def test_one_job_by_hand() -> None:
    windows = np.array([[1, 1, 1, 0, 1, 1, 1, 1, 1, 1]], dtype=bool)
    job = SpotJob(work_s=4, deadline_s=10, restart_s=1, step_s=1, stretch_s=2, spot_price=0.5)
    ran = simulate_jobs(job, windows, greedy, keep_held=True)
    # starts, computes 2 (saved), reclaimed, starts, computes 2
    assert ran.held[0].tolist() == [1, 1, 1, 0, 1, 1, 1, 0, 0, 0]
    assert (ran.cost[0], ran.finished_s[0], ran.reclaims[0], ran.lost_s[0], ran.starts[0]) == (3.0, 7.0, 1, 0.0, 2)
    lossy = SpotJob(work_s=4, deadline_s=12, restart_s=1, step_s=1, stretch_s=4, spot_price=0.5)
    assert simulate_jobs(lossy, np.pad(windows, ((0, 0), (0, 2))), greedy).lost_s[0] == 2.0


@settings(max_examples=60, deadline=None)
@given(
    work=st.integers(1, 40), slack=st.integers(0, 30), restart=st.integers(0, 4), stretch=st.integers(0, 6),
    up=st.floats(1, 30), down=st.floats(1, 30), seed=st.integers(0, 999),
)  # fmt: skip
def test_no_policy_misses_a_deadline_and_none_beats_the_optimum(
    work: int, slack: int, restart: int, stretch: int, up: float, down: float, seed: int
) -> None:
    job = SpotJob(work_s=work, deadline_s=work + restart + slack, restart_s=restart, step_s=1, stretch_s=stretch)
    steps = generate_availability(up, down, 3.0 * job.deadline_s + 10, seed=seed).sampled(1)
    windows = job_windows(steps, 8, job.deadline_steps, seed=seed)
    best = optimal_cost(job, windows)
    for policy in (on_demand, greedy, uniform_progress, planned_policy(job, 1 / up, 1 / down)):
        ran = simulate_jobs(job, windows, policy)
        assert ran.missed == 0
        assert (ran.cost >= best - 1e-9).all()
    assert (best <= job.on_demand_cost + 1e-9).all()


def test_ours_closes_at_least_twice_greedys_gap_at_tight_deadlines() -> None:
    job = SpotJob(work_s=48 * H, deadline_s=52 * H, restart_s=0.2 * H, step_s=0.1 * H)
    past, month = (generate_availability(3 * H, 3 * H, 720 * H, seed=s).sampled(job.step_s) for s in (100, 1))
    windows = job_windows(month, 60, job.deadline_steps, seed=3)
    room = float((job.on_demand_cost - optimal_cost(job, windows)).mean())
    policies = (greedy, uniform_progress, planned_policy(job, *fit_chain(past)))
    ran = [simulate_jobs(job, windows, policy) for policy in policies]
    closed = [(job.on_demand_cost - float(one.cost.mean())) / room for one in ran]
    assert closed[2] >= 2 * closed[0]
    assert closed[2] >= closed[1]
    assert [one.missed for one in ran] == [0, 0, 0]


def test_ten_thousand_jobs_over_a_month() -> None:
    job = SpotJob(work_s=48 * H, deadline_s=56 * H, restart_s=0.2 * H, step_s=0.1 * H)
    steps = generate_availability(3 * H, 3 * H, 720 * H, seed=1).sampled(job.step_s)
    began = time.process_time()
    ran = simulate_jobs(job, job_windows(steps, 10_000, job.deadline_steps, seed=0), uniform_progress)
    assert time.process_time() - began < 60  # the bench holds it to 10 s
    assert ran.missed == 0
    assert len(ran.cost) == 10_000


def test_the_chain_is_found_again() -> None:
    steps = generate_availability(50, 20, 200_000, seed=2).sampled(1)
    fall, rise = fit_chain(steps)
    assert fall == pytest.approx(1 / 50, rel=0.15)
    assert rise == pytest.approx(1 / 20, rel=0.15)
    with pytest.raises(UsageError, match="at least two steps"):
        fit_chain(steps[:1])


def test_a_deadline_that_cannot_be_met_is_said_at_the_start() -> None:
    with pytest.raises(UsageError, match="cannot be met: on demand alone the job takes 11 s"):
        SpotJob(work_s=10, deadline_s=10.5, restart_s=1, step_s=1)


@pytest.mark.parametrize("bad", [{"work_s": 0}, {"restart_s": -1}, {"step_s": float("nan")}, {"spot_price": -0.1}])
def test_rates_of_a_job_that_cannot_be_meant(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be finite"):
        SpotJob(**({"work_s": 3, "deadline_s": 7, "restart_s": 1, "step_s": 1} | bad))


def test_what_else_is_refused() -> None:
    with pytest.raises(UsageError, match=r"got \(1, 3\)"):
        simulate_jobs(SMALL, np.ones((1, 3), dtype=bool), greedy)
    with pytest.raises(UsageError, match=r"got \(1, 3\)"):
        optimal_cost(SMALL, np.ones((1, 3), dtype=bool))
    with pytest.raises(UsageError, match="spot where none can be had"):
        simulate_jobs(SMALL, np.zeros((1, 7), dtype=bool), lambda now: np.full(1, SPOT))
    with pytest.raises(UsageError, match="chances above 0"):
        planned_policy(SMALL, 0.0, 0.5)
    other = SpotJob(work_s=2, deadline_s=7, restart_s=1, step_s=1)
    with pytest.raises(UsageError, match="made for another job"):
        simulate_jobs(other, np.ones((1, 7), dtype=bool), planned_policy(SMALL, 0.1, 0.1))
