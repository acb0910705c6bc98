"""A real job, really killed: the same final loss as without, and accounts that leave no second out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from labkit import launch
from labkit.checkpoint.training import Job
from labkit.errors import DeadlineError, RankError, UsageError
from labkit.spot import SPOT, SpotJob, greedy, on_demand
from labkit.spot.availability import Availability
from labkit.spot.market import Lives, Replay, exponential_lives
from labkit.spot.supervisor import supervise

from .spot_job import train

JOB = SpotJob(work_s=10, deadline_s=300, restart_s=1, step_s=0.1, spot_price=0.25)


def test_a_job_reclaimed_again_and_again_ends_with_the_same_loss(tmp_path: Path) -> None:
    whole = Job(folder=tmp_path / "whole", steps=60, every=5)
    plain = supervise(train, whole, job=JOB, market=Lives([]), policy=on_demand, units=60)
    torn = Job(folder=tmp_path / "torn", steps=60, every=5)
    lives = [0.15, 0.3, 0.2, 0.25]
    ran = supervise(train, torn, 0.05, job=JOB, market=Lives(lives), policy=greedy, units=60)
    assert ran.value == plain.value
    ledger = ran.ledger
    assert ledger.reclaims == len(lives)
    assert plain.ledger.reclaims == 0
    assert sum(ledger.parts_s().values()) == pytest.approx(ledger.elapsed_s, abs=1e-6)
    assert all(part >= -1e-9 for part in ledger.parts_s().values())
    paid_s = sum(a.end_s - a.start_s for a in ledger.attempts)
    assert ledger.usd == pytest.approx(0.25 * paid_s / 3600)
    assert plain.ledger.usd == pytest.approx(
        plain.ledger.attempts[0].end_s / 3600 - plain.ledger.start_s / 3600, rel=0.1
    )
    for attempt, life in zip(ledger.attempts, lives, strict=False):
        assert life <= attempt.taken_s - attempt.ready_s <= attempt.end_s - attempt.ready_s
    starts = [after.ready_s - before.taken_s for before, after in pairwise(ledger.attempts)]
    assert ledger.gaps_s() == tuple(
        starts
    )  # what the closed form calls a restart: no second between a life and the next
    kept = [a.kept for a in ledger.attempts]
    assert kept == sorted(kept)
    assert kept[-1] == 60
    assert 0 <= ledger.goodput() < 1  # 0 where this machine saves nothing within such lives
    assert launch.processes() == []


def test_a_notice_leaves_time_to_save_and_a_policy_may_move_the_job(tmp_path: Path) -> None:
    job = Job(folder=tmp_path / "a", steps=2000, every=2000)  # alone it would save at its end only
    market = Replay(Availability(up=((0.0, 40.0),), span_s=4000), speed=10)  # spot for four seconds
    tight = SpotJob(work_s=4, deadline_s=40, restart_s=1, step_s=0.1)
    ran = supervise(
        train, job, job=tight, market=market, units=2000, grace_s=0.6,
        policy=lambda now: 1 if now.available else 2,
    )  # fmt: skip
    first = ran.ledger.attempts[0]
    assert first.kind == SPOT
    assert first.kept > 0
    assert ran.ledger.attempts[-1].kept == 2000


def test_errors_of_the_job_and_of_the_call() -> None:
    def fails(worker: object) -> None:
        raise ZeroDivisionError("its own fault")

    with pytest.raises(RankError, match="its own fault"):
        supervise(fails, job=JOB, market=Lives([]), policy=on_demand, units=1)
    with pytest.raises(UsageError, match="units must be at least 1"):
        supervise(fails, job=JOB, market=Lives([]), policy=on_demand, units=0)
    with pytest.raises(UsageError, match="above 0; got"):
        Lives([1.0, -1.0])
    with pytest.raises(UsageError, match="speed must be"):
        Replay(Availability(up=(), span_s=1), speed=0)
    with pytest.raises(DeadlineError, match=r"not done in 0\.2 s"):
        supervise(fails, job=JOB, market=Lives([]), policy=lambda now: 0, units=1, limit_s=0.2)


def test_lives_have_their_mean_and_their_shape() -> None:
    lives = exponential_lives(3.0, 20, seed=1)
    assert sum(lives) / 20 == pytest.approx(3.0)
    assert sum(life < 3.0 for life in lives) / 20 == pytest.approx(0.63, abs=0.05)
    assert lives != exponential_lives(3.0, 20, seed=2)
