"""Each monitor on what it must find, on what it must leave alone, and on what it must refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labkit.errors import UsageError
from labkit.monitors import CoverageLedger, DivergenceMonitor, ReplicaMonitor, StragglerMonitor, durations_s
from labkit.monitors.divergence import find_non_finite
from labkit.monitors.replicas import checksums, flip_bit


def test_the_slow_rank_is_named_with_its_slowdown_and_what_slows_all_is_none() -> None:
    monitor = StragglerMonitor(4, threshold=0.8)
    for step in range(20):
        assert monitor.update(step, [3.0 if step % 3 else 1.0] * 4) == []  # the whole job is slow, nobody is
    alerts = [alert for step in range(20, 40) for alert in monitor.update(step, [1.0, 1.0, 1.3, 1.0])]
    (alert,) = alerts
    each = math.log(1.3) / 2  # what a step adds beyond the slack
    assert alert.step == 20 + math.floor(0.8 / each)
    assert (alert.monitor, alert.where) == ("straggler", "rank 2")
    assert alert.evidence["slowdown"] == pytest.approx(1.3)  # of the steps since the fault, not of those before
    assert "over 7 steps" in alert.message
    assert alert.evidence["times_s"] == [1.0, 1.0, 1.3, 1.0]
    assert "rank 2" in str(alert)


def test_two_ranks_are_enough_for_a_straggler() -> None:
    monitor = StragglerMonitor(2, threshold=0.5)
    found = [alert.where for step in range(9) for alert in monitor.update(step, [1.3, 1.0])]
    assert found == ["rank 0"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_times_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(UsageError, match=r"finite and above 0 s; got .* from rank 1.*mend its clock"):
        StragglerMonitor(2, threshold=1.0).update(0, [1.0, bad])
    with pytest.raises(UsageError, match="One time a rank is needed, 3"):
        StragglerMonitor(3, threshold=1.0).update(0, [1.0, 1.0])
    with pytest.raises(UsageError, match="at least 2 ranks"):
        StragglerMonitor(1, threshold=1.0)


def test_timestamps_become_durations_or_are_refused() -> None:
    assert durations_s([[0.0, 1.0]], [[2.0, 1.5]]).tolist() == [[2.0, 0.5]]
    with pytest.raises(UsageError, match=r"Timestamps must be finite; got nan as the end at \[0, 1\]"):
        durations_s([[0.0, 1.0]], [[2.0, math.nan]])
    with pytest.raises(UsageError, match=r"at \[1\] it ends 1 s before"):
        durations_s([0.0, 3.0], [1.0, 2.0])
    with pytest.raises(UsageError, match="Each start needs its end"):
        durations_s([0.0], [1.0, 2.0])


def test_a_loss_that_falls_is_left_alone_one_that_climbs_is_not() -> None:
    rng = np.random.default_rng(0)
    monitor = DivergenceMonitor("loss", threshold=10.0)
    falling = 3 * np.exp(-np.arange(80) / 30) + rng.normal(0, 0.02, 80)
    assert [alert for step, loss in enumerate(falling) for alert in monitor.update(step, float(loss))] == []
    climbing = falling[-1] * 1.05 ** np.arange(1, 30)
    (alert,) = [alert for step, loss in enumerate(climbing) for alert in monitor.update(80 + step, float(loss))]
    assert (alert.monitor, alert.where) == ("divergence", "loss")
    assert alert.evidence["value"] > alert.evidence["median"]


def test_a_loss_that_is_none_alerts_once() -> None:
    monitor = DivergenceMonitor("loss", threshold=10.0)
    told = [monitor.update(step, value) for step, value in enumerate([1.0, math.nan, math.inf, 1.0, math.nan])]
    assert [len(alerts) for alerts in told] == [0, 1, 0, 0, 1]
    assert told[1][0].monitor == "non-finite"
    with pytest.raises(UsageError, match="at least 5 steps"):
        DivergenceMonitor("loss", threshold=1.0, window=2)


def test_one_element_that_is_none_is_found_where_it_lies() -> None:
    tensors = {"a": torch.ones(3), "b": torch.zeros(4, 5), "huge": torch.full((4,), 3e38)}
    assert find_non_finite(0, tensors) == []  # the sum of the last is infinite, its elements are not
    tensors["b"][2, 3] = math.nan
    (alert,) = find_non_finite(7, tensors, where="rank 1")
    assert (alert.step, alert.where, alert.evidence["first"], alert.evidence["count"]) == (7, "rank 1", [2, 3], 1)
    assert "1 of 20 elements of b" in alert.message


def test_the_ledger_knows_what_was_read_twice_and_what_never() -> None:
    ledger = CoverageLedger(6, 2)
    reads = {0: [(0, 0), (0, 1), (0, 2), (1, 0)], 1: [(0, 3), (0, 3), (0, 5), (1, 1)]}  # shard 4 never, 3 twice
    alerts = [alert for step in range(4) for rank in (0, 1) for alert in ledger.read(step, rank, *reads[rank][step])]
    assert [(alert.monitor, alert.where, alert.step) for alert in alerts] == [
        ("repeated shard", "shard 3", 1),
        ("skipped shard", "shard 4", 3),
    ]
    assert alerts[0].evidence == {"epoch": 0, "rank": 1, "first_step": 0, "first_rank": 1}
    assert [alert.where for alert in ledger.finish(9, num_epochs=2)] == [f"shard {n}" for n in (2, 3, 4, 5)]
    assert [alert.monitor for alert in ledger.read(9, 0, 0, 2)] == ["repeated shard"]  # of an epoch long past
    with pytest.raises(UsageError, match="got rank 2, shard 0"):
        ledger.read(0, 2, 0, 0)
    with pytest.raises(UsageError, match="at least one shard"):
        CoverageLedger(0, 1)


def test_two_reads_of_one_rank_in_one_step_are_two() -> None:
    ledger = CoverageLedger(4, 1)
    assert ledger.read(0, 0, 0, 1) == []
    assert len(ledger.read(0, 0, 0, 1)) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_single_bit_changes_the_checksum_and_flipping_it_back_restores_it(dtype: torch.dtype) -> None:
    tensor = torch.randn(9, generator=torch.Generator().manual_seed(1)).to(dtype)
    before, kept = checksums({"w": tensor}), tensor.clone()
    for bit in range(8 * tensor.element_size()):
        flip_bit(tensor, 5, bit)
        assert checksums({"w": tensor}) != before
        flip_bit(tensor, 5, bit)
        assert checksums({"w": tensor}) == before
    assert torch.equal(tensor, kept)


def test_a_majority_names_the_odd_one_out_and_two_ranks_only_learn_that_they_differ() -> None:
    monitor = ReplicaMonitor()
    assert monitor.update(0, [{"w": 1}, {"w": 1}, {"w": 1}]) == []
    (alert,) = monitor.update(5, [{"w": 1}, {"w": 2}, {"w": 1}])
    assert (alert.where, alert.evidence["checksums"]) == ("rank 1", ["00000001", "00000002", "00000001"])
    assert monitor.update(10, [{"w": 3}, {"w": 2}, {"w": 3}]) == []  # it has been said
    assert monitor.update(15, [{"w": 4}, {"w": 4}, {"w": 4}]) == []
    assert monitor.update(20, [{"w": 1}, {"w": 2}, {"w": 2}])[0].where == "rank 0"
    assert ReplicaMonitor().update(0, [{"w": 1}, {"w": 2}])[0].where == "no majority"
    with pytest.raises(UsageError, match="at least 2 ranks"):
        monitor.update(0, [{"w": 1}])
    with pytest.raises(UsageError, match="the same names"):
        monitor.update(0, [{"w": 1}, {"v": 1}])


def test_bits_and_elements_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="3 elements of 32 bits; got element 3, bit 0"):
        flip_bit(torch.zeros(3), 3, 0)
    with pytest.raises(UsageError, match="in one piece"):
        flip_bit(torch.zeros(3, 4).T, 0, 0)
