"""The model of a data-parallel step against closed forms; steps really taken, counted and refused."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.calibrate import published
from labkit.errors import UsageError
from labkit.models import TransformerConfig
from labkit.parallel.links import Link
from labkit.parallel.scaling import StepModel, predict_efficiency
from labkit.parallel.step_trace import trace_steps
from labkit.parallel.trials import Trial, measure_steps

STEP = StepModel(
    forward_s=1.0, backward_s=2.0, update_s=0.0, bucket_bytes=(10.0,) * 4, alpha_s=0.0, beta_s_per_byte=0.05
)


def test_a_ring_costs_its_closed_form() -> None:
    assert STEP.all_reduce_s(100.0, 4) == pytest.approx(2 * 3 / 4 * 100 * 0.05)
    slow = replace(STEP, alpha_s=0.25)
    assert slow.communication_s(4) == pytest.approx(4 * 2 * 3 * 0.25 + STEP.communication_s(4))
    assert STEP.communication_s(1) == 0
    assert STEP.step_s(1) == 3


def test_the_last_bucket_is_exposed_where_compute_is_longer_and_all_but_the_first_wait_where_it_is_not() -> None:
    assert STEP.communication_s(2) == pytest.approx(2.0)  # 0.5 a bucket, just as long as the backward takes to fill one
    assert STEP.step_s(2) == pytest.approx(3 + 0.5)
    assert STEP.exposed_s(2) == pytest.approx(0.5)
    slow = replace(STEP, beta_s_per_byte=0.5)
    assert slow.step_s(2) == pytest.approx(1.5 + 20)  # from the first full bucket on the link is never free
    assert replace(STEP, overlap=False).step_s(2) == pytest.approx(3 + 2)


def test_ranks_that_share_cores_take_turns() -> None:
    shared = replace(STEP, num_cores=2, contention=1.2)
    assert [shared.slowdown(n) for n in (1, 2, 3, 4)] == pytest.approx([1, 1.2, 1.8, 2.4])
    assert shared.compute_s(4) == pytest.approx(2.4 * 3)
    assert shared.on_devices_of_their_own().compute_s(4) == 3


def test_moving_gradients_takes_its_time_from_the_cores_by_bytes_and_by_how_they_are_shared() -> None:
    shared = replace(STEP, beta_s_per_byte=0.0, num_cores=2, contention=1.0, transfer_s=0.4)
    assert shared.step_s(1) == 3
    assert shared.step_s(2) == pytest.approx(3 + 0.4)
    assert shared.step_s(4) == pytest.approx(2 * 3 + 2 * 1.5 * 0.4)  # a ring of four sends half as much again


def test_strong_scaling_divides_what_the_batch_can_divide() -> None:
    local = replace(STEP, beta_s_per_byte=0.0)
    assert local.speedup(4) == pytest.approx(4)
    assert replace(local, fixed_share=0.5).speedup(4) == pytest.approx(1 / (0.5 + 0.5 / 4))  # Amdahl (1967)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 1))
def test_efficiency_falls_with_devices_and_the_knee_is_its_last_within_budget(
    alpha_s: float, beta: float, budget: float
) -> None:
    step = replace(STEP, alpha_s=alpha_s, beta_s_per_byte=beta)
    curve = [step.efficiency(n) for n in range(1, 9)]
    assert curve[0] == 1
    assert all(a >= b - 1e-12 for a, b in pairwise(curve))
    knee = step.knee(budget)
    assert step.efficiency(knee) >= budget
    assert knee == 2**20 or step.efficiency(knee + 1) < budget


def test_a_prediction_holds_the_middle_of_its_rounds() -> None:
    found = predict_efficiency([replace(STEP, beta_s_per_byte=b) for b in (0.1, 0.2, 0.3)], 4)
    assert found.low < found.efficiency < found.high
    assert found.efficiency == pytest.approx(replace(STEP, beta_s_per_byte=0.2).efficiency(4))


def test_steps_are_timed_for_each_trial_by_rank_and_part() -> None:
    config = TransformerConfig(vocab_size=32, hidden_size=24, intermediate_size=32, num_hidden_layers=2)
    trials = [
        Trial(num_ranks=1, batch_size=2, sync=False),
        Trial(num_ranks=2, batch_size=2, bucket_bytes=4096),
        Trial(num_ranks=2, batch_size=2, by_torch=True, slow_rank=1),
    ]
    times = measure_steps(config, trials, seq_len=8, rounds=3)
    assert [one.rank_s.shape for one in times] == [(3, 1), (3, 2), (3, 2)]
    for one in times:
        assert (one.step_s == one.rank_s.max(axis=1)).all()
        assert one.forward_s + one.backward_s + one.update_s == pytest.approx(one.step_s)
        assert (one.forward_s > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: replace(STEP, forward_s=math.nan), "must be finite"),
        (lambda: replace(STEP, alpha_s=-1.0), "not negative"),
        (lambda: replace(STEP, bucket_bytes=()), "at least one bucket"),
        (lambda: STEP.step_s(0), "needs a device"),
        (lambda: STEP.knee(1.2), "at most at 1; got 1.2"),
        (lambda: predict_efficiency([], 4), "at least one fitted round"),
        (lambda: measure_steps(TransformerConfig(), []), "need a trial"),
        (lambda: measure_steps(TransformerConfig(), [Trial(num_ranks=0, batch_size=1)]), "at least one rank"),
    ],
)
def test_what_cannot_be_scaled(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize("num_workers", [8, 16])
@pytest.mark.parametrize("mib", [8, 16, 32, 64])
def test_transcribed_all_reduces_are_those_published(reference: Path, num_workers: int, mib: int) -> None:
    with (reference / "vidur_profiles" / "network" / "a100_dgx" / "all_reduce.csv").open(newline="") as file:
        medians_ms = [
            float(row["time_stats.all_reduce.median"])
            for row in csv.DictReader(file)
            if (int(row["num_workers"]), int(row["devices_per_node"]), int(row["size"])) == (num_workers, 8, mib << 20)
        ]
    assert published(f"dgx-all-reduce-{num_workers}-{mib}mib").value * 1e3 in [pytest.approx(ms) for ms in medians_ms]


def test_a_traced_step_hides_buckets_under_the_backward_only_with_overlap() -> None:
    config = TransformerConfig(vocab_size=32, hidden_size=24, intermediate_size=32, num_hidden_layers=2)
    link = Link("slow", 2e6, 1e-4)
    over = Trial(num_ranks=2, batch_size=2, link=link, bucket_bytes=8192)
    timeline = trace_steps(config, {"with": over, "without": replace(over, overlap=False)}, seq_len=8)
    assert timeline.lanes == ("with: core", "with: link", "without: core", "without: link")
    for way in ("with", "without"):
        core = {span.name: span for span in timeline.of(f"{way}: core")}
        buckets = timeline.of(f"{way}: link")
        assert [span.name for span in buckets] == [str(index) for index in range(len(buckets))]
        assert buckets[-1].end_s <= core["wait"].end_s + 0.05
        if way == "without":
            assert buckets[0].start_s >= core["backward"].end_s - 0.05
        else:
            assert buckets[0].start_s < core["wait"].start_s
