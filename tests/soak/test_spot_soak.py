"""A real spot job of at least twenty reclaims: by lives without a notice, and from a replayed trace with one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from labkit import launch
from labkit.checkpoint.training import Job
from labkit.spot import SpotJob, generate_availability, greedy, on_demand
from labkit.spot.market import Lives, Market, Replay, exponential_lives
from labkit.spot.supervisor import supervise

pytestmark = [pytest.mark.soak]
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "spot"))
from spot_job import train  # noqa: E402

STEPS = 6000
LOOSE = SpotJob(work_s=60, deadline_s=36000, restart_s=1, step_s=0.1, spot_price=0.3)


@pytest.mark.parametrize(
    ("market", "grace_s"),
    [
        (Lives(exponential_lives(0.4, 24, seed=3)), 0.0),
        (Replay(generate_availability(1.5, 0.4, 3000, seed=5)), 0.3),
    ],
    ids=["lives", "replay"],
)
def test_a_job_of_twenty_reclaims_ends_with_the_same_loss(tmp_path: Path, market: Market, grace_s: float) -> None:
    plain = supervise(
        train, Job(folder=tmp_path / "plain", steps=STEPS, every=25), job=LOOSE, market=Lives([]), policy=on_demand,
        units=STEPS,
    )  # fmt: skip
    job = Job(folder=tmp_path / "spot", steps=STEPS, every=25)
    ran = supervise(train, job, job=LOOSE, market=market, policy=greedy, units=STEPS, grace_s=grace_s)
    print(f"{ran.ledger.reclaims} reclaims, parts {ran.ledger.parts_s()}")
    assert ran.value == plain.value
    assert ran.ledger.reclaims >= 20
    assert sum(ran.ledger.parts_s().values()) == pytest.approx(ran.ledger.elapsed_s, abs=1e-6)
    assert launch.processes() == []
