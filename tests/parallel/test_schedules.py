"""Schedules are plain data that can run: closed forms, torch's own order, and what is no schedule."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B
from torch.testing._internal.distributed.fake_pg import FakeStore

from labkit.errors import UsageError
from labkit.parallel.cost import pipeline_bubble
from labkit.parallel.schedule_order import check_schedule
from labkit.parallel.schedule_timeline import Durations, bubble, fit_durations, held_activations, simulate
from labkit.parallel.schedules import SCHEDULES, Action, Schedule, interleaved_1f1b, make_schedule

GRID = [(p, m) for p in (1, 2, 3, 4, 8) for m in (1, 2, 5, 8, 24, 64)]


@st.composite
def drawn(draw: st.DrawFn) -> Schedule:
    name, stages = draw(st.sampled_from(sorted(SCHEDULES))), draw(st.integers(1, 8))
    chunks = draw(st.integers(1, 4)) if name == "interleaved 1F1B" else 1
    microbatches = draw(st.integers(1, 6)) * stages if name == "interleaved 1F1B" else draw(st.integers(1, 24))
    return make_schedule(name, stages, microbatches, chunks)


@pytest.fixture
def fake_world() -> Iterator[None]:
    """Eight ranks that torch believes in."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    yield
    dist.destroy_process_group()


def torchs_own(num_microbatches: int, num_chunks: int) -> Schedule:
    stages = [PipelineStage(torch.nn.Identity(), 8 * c, 8 * num_chunks, torch.device("cpu")) for c in range(num_chunks)]
    order = ScheduleInterleaved1F1B(stages, num_microbatches).pipeline_order
    kinds = {"FORWARD": "F", "FULL_BACKWARD": "B"}
    rows = [
        tuple(
            Action(kind=kinds[a.computation_type.name], microbatch=a.microbatch_index, chunk=a.stage_index // 8)
            for a in order[rank]
            if a is not None
        )
        for rank in range(8)
    ]
    return Schedule(name="torch", num_microbatches=num_microbatches, num_chunks=num_chunks, actions=tuple(rows))


@given(drawn())
def test_every_schedule_does_all_once_and_never_hangs(schedule: Schedule) -> None:
    check_schedule(schedule)
    timeline = simulate(schedule)
    assert len(timeline.spans) == sum(map(len, schedule.actions))
    for lane in timeline.lanes:  # a stage does one thing at a time
        spans = timeline.of(lane)
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(spans))


@pytest.mark.parametrize(("p", "m"), GRID)
def test_the_bubble_is_the_closed_form(p: int, m: int) -> None:
    for name in ("GPipe", "1F1B"):
        assert bubble(simulate(make_schedule(name, p, m))) == pipeline_bubble(p, m)
    for v in (1, 2, 3, 4):
        schedule = interleaved_1f1b(p, m * p, v)
        chunk = Durations(forward_s=float(v))  # a chunk then takes 1 and 2 s: whole numbers, and so exactly
        assert bubble(simulate(schedule, chunk)) == pipeline_bubble(p, m * p, v)


@pytest.mark.parametrize(("v", "published"), [(1, 0.10938), (2, 0.05469), (4, 0.02734)])
def test_torchs_interleaved_order_is_ours_and_meets_the_closed_form(fake_world: None, v: int, published: float) -> None:
    theirs = torchs_own(64, v)
    check_schedule(theirs)
    assert theirs.actions == interleaved_1f1b(8, 64, v).actions
    found = bubble(simulate(theirs, Durations(forward_s=float(v))))
    assert found == pipeline_bubble(8, 64, v)
    assert round(found, 5) == published


@given(drawn(), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 2))
def test_no_schedule_beats_its_work(schedule: Schedule, forward_s: float, backward_s: float, send_s: float) -> None:
    durations = Durations(forward_s=forward_s, backward_s=backward_s, send_s=send_s)
    timeline = simulate(schedule, durations)
    work_s = schedule.num_microbatches * (forward_s + backward_s)
    through_s = (schedule.num_parts - 1) * (forward_s / schedule.num_chunks)  # the last part must be reached first
    assert timeline.duration_s >= max(work_s, through_s) * (1 - 1e-9)
    assert bubble(timeline) >= -1e-9
    slower = simulate(schedule, replace(durations, send_s=send_s + 1))
    assert slower.duration_s >= timeline.duration_s - 1e-9


@pytest.mark.parametrize(("p", "m"), [(p, m) for p, m in GRID if p > 1])
def test_zero_bubble_idles_less_than_1f1b_within_its_memory(p: int, m: int) -> None:
    zero_bubble, plain = make_schedule("ZB-H1", p, m), make_schedule("1F1B", p, m)
    found = bubble(simulate(zero_bubble))
    assert found < bubble(simulate(plain))
    if m >= p:  # Qi et al. (2023): (p - 1)(F + B - W) of m(F + B + W), here all alike
        assert found == pytest.approx((p - 1) / (3 * m), rel=1e-12)
    assert max(held_activations(zero_bubble)) <= max(held_activations(plain)) == min(p, m)


def test_what_each_schedule_holds() -> None:
    assert held_activations(make_schedule("GPipe", 4, 16)) == (16,) * 4
    assert held_activations(make_schedule("1F1B", 4, 16)) == (4, 3, 2, 1)
    assert held_activations(make_schedule("ZB-H1", 4, 16)) == (4,) * 4
    # Narayanan et al. (2021): p(1 + (p - 1)/(pv)) stages' worth on the first stage, 1/v of it a chunk
    for p, v in ((4, 2), (8, 4)):
        assert held_activations(interleaved_1f1b(p, 8 * p, v))[0] == v * p + p - 1


def test_durations_may_differ_by_stage_and_are_found_again() -> None:
    durations = Durations(forward_s=(1.0, 2.0), backward_s=(3.0, 4.0))
    schedule = make_schedule("1F1B", 2, 5)
    timeline = simulate(schedule, durations)
    assert fit_durations([timeline]) == durations
    assert timeline.busy_s("stage 1") == 30
    assert timeline.lanes == ("stage 0", "stage 1")
    assert durations.by_stage == ((1.0, 3.0), (2.0, 4.0))
    assert Durations().with_send(0.5) == Durations(send_s=0.5)
    with pytest.raises(UsageError, match="one value a stage; got 2 for 3"):
        simulate(make_schedule("GPipe", 3, 2), durations)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ((("F0", "B0"), ("B0", "F0")), r"never ends: stage 0 waits at B0 for B0 of stage 1"),
        ((("F0", "B0"), ("F0",)), r"Stage 1 of mine must do B0 once; it does so 0 times"),
        ((("F0", "B0"), ("F0", "B0", "B0")), r"must do B0 once; it does so 2 times"),
        ((("F0", "F1", "B0"), ("F0", "B0")), r"must do F1 not at all; it does so 1 times"),
    ],
    ids=["backward first", "left out", "twice", "too much"],
)
def test_what_is_no_schedule(actions: tuple[tuple[str, ...], ...], message: str) -> None:
    rows = tuple(tuple(Action(kind=word[0], microbatch=int(word[1:])) for word in row) for row in actions)
    with pytest.raises(UsageError, match=message):
        check_schedule(Schedule(name="mine", num_microbatches=1, actions=rows))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("interleaved 1F1B", 4, 3, 2), r"multiple of num_stages; got 3 and 4\. Use 4, or 1F1B"),
        (("interleaved 1F1B", 4, 6, 2), r"multiple of num_stages; got 6 and 4\. Use 8, or 1F1B"),
        (("interleaved 1F1B", 4, 8, 0), "num_chunks must be a whole number of at least 1; got 0"),
        (("1F1B", 4, 8, 2), "one chunk a stage; got num_chunks = 2"),
        (("GPipe", 0, 8), "num_stages must be a whole number of at least 1; got 0"),
        (("1F1B", 2, 2.5), "num_microbatches must be a whole number of at least 1; got 2.5"),
        (("2F2B", 2, 2), "schedule must be one of GPipe, 1F1B, interleaved 1F1B, ZB-H1; got '2F2B'"),
    ],
)
def test_bad_input(arguments: tuple[str, int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_schedule(*arguments)


@pytest.mark.parametrize(
    "given_",
    [{"forward_s": 0.0}, {"backward_s": float("nan")}, {"send_s": -1.0}, {"forward_s": (1.0, 1.0), "backward_s": 2.0}],
)
def test_durations_must_be_times(given_: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"got Durations\("):
        Durations(**given_)


def test_no_torch_is_loaded() -> None:
    code = "import sys, labkit.parallel.schedule_timeline as t; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
