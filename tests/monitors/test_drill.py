"""The issue's figures: recall of at least 0.95 and at most one false alarm in 50, thresholds from other seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.errors import UsageError
from labkit.monitors import Outcome, Score, Thresholds
from labkit.monitors.drill import DrillConfig, run_drill
from labkit.monitors.faults import KINDS, Fault, draw_fault
from labkit.monitors.shards import ShardReader, make_shards
from labkit.monitors.trials import calibrate_monitors, judge, try_monitors

NUM_RUNS = 50


@pytest.fixture(scope="module")
def thresholds() -> Thresholds:
    torch.set_num_threads(1)
    return calibrate_monitors(range(1000, 1060))


def test_recall_and_false_alarms(thresholds: Thresholds) -> None:
    scores = try_monitors(range(NUM_RUNS), thresholds)
    assert list(scores) == [*KINDS, "healthy"]
    for kind in KINDS:
        assert scores[kind].num_faults == NUM_RUNS
        assert scores[kind].num_found >= 0.95 * NUM_RUNS, kind
        assert scores[kind].num_false <= 1, kind
        assert min(scores[kind].delays_steps) >= 0
    assert len(scores["healthy"].outcomes) == NUM_RUNS
    assert scores["healthy"].num_false <= 1
    assert max(scores["flipped bit"].delays_steps) < DrillConfig().check_every
    epoch = DrillConfig().num_shards // DrillConfig().num_ranks
    assert max(scores["skipped shard"].delays_steps) <= epoch
    for kind in ("NaN element", "repeated shard"):
        assert set(scores[kind].delays_steps) == {0}


def test_without_thresholds_nothing_is_found_by_them_and_the_run_is_the_same(thresholds: Thresholds) -> None:
    fault = Fault(kind="straggler", step=30, rank=2)
    deaf, heard = run_drill(5, fault), run_drill(5, fault, thresholds=thresholds)
    assert deaf.alerts == ()
    assert [alert.where for alert in heard.alerts] == ["rank 2"]
    assert np.array_equal(deaf.losses, heard.losses)  # watching changes nothing
    assert deaf.peaks["straggler"] > thresholds.straggler


def test_the_drill_trains_and_its_ranks_stay_equal_to_the_last_bit() -> None:
    run = run_drill(3)
    assert run.losses[-10:].mean() < 0.75 * run.losses[:5].mean()
    assert run.times_s.shape == (60, 4)
    assert run.alerts == ()  # among them: no two checksums differ
    assert np.array_equal(run.losses, run_drill(3).losses)


def test_the_shards_are_those_that_were_skipped_and_repeated() -> None:
    config, reader = DrillConfig(), None
    for kind, step in (("skipped shard", 30), ("repeated shard", 30)):
        reader = ShardReader(config, 4, 1, None)
        reads = [reader.next(number)[1] for number in range(step + 1)]
        lost = reads[step] if kind == "skipped shard" else reads[step - 1]
        first = run_drill(4, Fault(kind=kind, step=step, rank=1)).alerts[0]
        assert (first.monitor, first.where) == (kind, f"shard {lost}")


def test_all_ranks_together_read_every_shard_once_an_epoch() -> None:
    config = DrillConfig()
    readers = [ShardReader(config, 9, rank, None) for rank in range(config.num_ranks)]
    reads = [reader.next(step) for step in range(24) for reader in readers]
    assert sorted(reads) == [(epoch, shard) for epoch in (0, 1) for shard in range(config.num_shards)]
    points, labels = make_shards(config, 0)
    assert (points.shape, labels.shape) == ((48, 16, 16), (48, 16))


def test_an_alert_before_the_fault_or_on_another_rank_does_not_count() -> None:
    run = run_drill(5, Fault(kind="NaN element", step=40, rank=2))
    assert judge(run) == Outcome(fault_step=40, found_step=40)
    moved = run_drill(5, Fault(kind="NaN element", step=40, rank=2))
    object.__setattr__(moved, "fault", Fault(kind="NaN element", step=40, rank=1))
    assert judge(moved).found_step is None
    object.__setattr__(moved, "fault", Fault(kind="NaN element", step=50, rank=2))
    assert judge(moved).false_step == 40


def test_scores() -> None:
    outcomes = [Outcome(fault_step=10, found_step=12), Outcome(fault_step=10, found_step=None, false_step=3)]
    score = Score(name="x", outcomes=tuple(outcomes))
    assert (score.recall().value, score.precision(), score.delays_steps) == (0.5, 0.5, (2,))
    assert score.delay().value == 2
    assert score.false_alarms().value == 0.5
    silent = Score(name="x", outcomes=(Outcome(fault_step=1, found_step=None),))
    for ask in (silent.delay, silent.precision):
        with pytest.raises(UsageError, match=r"nothing was alerted|none of 1 faults"):
            ask()


def test_faults_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="A fault is one of straggler, NaN element"):
        draw_fault("flood", 0, num_ranks=2, first_step=0, last_step=1)
    with pytest.raises(UsageError, match="mantissa bits 0 to 22; got bit 23"):
        Fault(kind="flipped bit", step=0, bit=23)
    with pytest.raises(UsageError, match="a step and a rank of at least 0"):
        Fault(kind="straggler", step=-1)
    with pytest.raises(UsageError, match="4 ranks and 60 steps"):
        run_drill(0, Fault(kind="straggler", step=60))
    with pytest.raises(UsageError, match="divide num_shards; got 3 and 47"):
        DrillConfig(num_ranks=3, num_shards=47)
    with pytest.raises(UsageError, match="at least one seed"):
        try_monitors([], Thresholds())
