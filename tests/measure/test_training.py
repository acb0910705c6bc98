"""A training job taken apart: known delays come back from where they were put, and training is the same."""

from __future__ import annotations

from collections import namedtuple
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from labkit import launch, measure
from labkit.errors import NotMeasurableError, UsageError
from labkit.measure.collective_spans import exposed_collectives
from labkit.models import Transformer, TransformerConfig

DELAYS = {"wait for data": 0.5, "copy": 0.25, "forward": 2.0, "backward": 4.0, "optimizer": 1.0, "other": 0.125}


class Clock:
    """Time passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def made(batches: Any = None, model: nn.Module | None = None, **options: Any) -> measure.TrainingJob:
    torch.manual_seed(0)
    net = nn.Linear(8, 4) if model is None else model
    options.setdefault("loss", lambda model, batch: model(batch).square().mean())
    data = [torch.ones(3, 8), torch.zeros(3, 8)] if batches is None else batches
    return measure.TrainingJob(net, torch.optim.SGD(net.parameters(), lr=0.1), data, **options)


def test_each_delay_comes_back_from_its_part_and_from_no_other() -> None:
    clock = Clock()
    job = measure.delayed(made(), DELAYS, sleep=clock.sleep)
    found = measure.profile_training(job, steps=5, clock=clock)
    assert found.parts_s == {part: (DELAYS.get(part, 0.0),) * 5 for part in measure.PARTS}
    assert found.step_s == found.plain_s == (sum(DELAYS.values()),) * 5
    assert (found.bottleneck, found.disturbance.value, found.steps) == ("backward", 1.0, 5)
    assert found.busy.value == pytest.approx(7.0 / 7.875)
    assert found.table()["share"].sum() == pytest.approx(1)
    timeline = found.timeline()
    assert (timeline.lanes, timeline.utilisation("rank 0")) == (("rank 0",), 5 * 7.875 / timeline.duration_s)
    spans = timeline.of("rank 0")
    assert all(a.end_s <= b.start_s for a, b in pairwise(spans))
    first_two = found.timeline(steps=2)
    assert first_two.duration_s == first_two.busy_s("rank 0") == 2 * 7.875  # they follow each other without a gap


def test_delays_of_zero_and_none_at_all_leave_the_job_as_it_was() -> None:
    clock = Clock()
    for delays in ({}, {"forward": 0.0}):
        found = measure.profile_training(
            measure.delayed(made(), delays, sleep=clock.sleep), steps=1, warmup=0, clock=clock
        )
        assert sum(found.step_s) == 0


def test_a_profiled_job_trains_as_one_that_nobody_watches() -> None:
    kept: list[float] = []
    watched = made(after_step=lambda loss: kept.append(loss.item()))
    measure.profile_training(watched, steps=3, warmup=2)
    alone = made()
    assert kept == [alone.step().item() for _ in range(2 + 1 + 2 * 3)]


def test_flops_are_the_closed_forms() -> None:
    assert measure.count_flops(made().step) == 2 * 2 * 3 * 8 * 4  # forward x @ w, backward gᵀ @ x; x needs no gradient
    config = TransformerConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4,
    )  # fmt: skip
    batch, seq_len = 3, 16
    tokens = torch.randint(64, (batch, seq_len))
    job = made([tokens], Transformer(config), loss=lambda model, batch: model(batch).square().mean())
    matrices = config.num_hidden_layers * (4 * 32 * 32 + 3 * 32 * 48) + 32 * 64  # the head; the embedding is a lookup
    products = config.num_hidden_layers * 2 * batch * seq_len**2 * 32  # q @ kᵀ, as long as scores @ v
    # Forward 2 of them a layer; backward 5, for the fused kernel computes the scores once more.
    assert measure.count_flops(job.step) == 6 * matrices * batch * seq_len + 7 * products


def test_utilisation_is_computed_over_peak_and_needs_both() -> None:
    clock = Clock()
    job = measure.delayed(made(), {"forward": 0.5, "other": 0.5}, sleep=clock.sleep)
    peak = measure.Quoted(name="peak", value=384 * 4, unit="FLOP/s", source="here")
    found = measure.profile_training(job, steps=3, peak=peak, clock=clock)
    assert found.utilisation.value == pytest.approx(1 / 4)  # 384 FLOPs in 1 s
    measured = measure.Measured.from_samples("peak", [384 * 2.0, 384 * 4.0, 384 * 8.0], "FLOP/s")
    known = measure.profile_training(job, steps=3, peak=measured, clock=clock).utilisation
    assert (known.low, known.value, known.high) == pytest.approx((1 / 8, 1 / 4, 1 / 2))
    without = measure.profile_training(job, steps=1, clock=clock)
    with pytest.raises(NotMeasurableError, match="without a peak"):
        _ = without.utilisation
    assert without.to_dict()["bottleneck"] in ("forward", "other")


def test_a_job_of_dicts_and_named_tuples_is_copied_and_batches_begin_again() -> None:
    seen: list[float] = []

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        seen.append(batch["x"][0].sum().item())
        return model(batch["x"][0]).mean()

    pair = namedtuple("pair", ["tensor", "text"])
    batches = [{"x": pair(torch.full((1, 8), 1.0), "as it is")}, {"x": (torch.full((1, 8), 2.0), "as it is")}]
    job = made(batches, loss=loss)
    for _ in range(3):
        job.step()
    assert seen == [8.0, 16.0, 8.0]


def test_batches_that_end_and_cannot_begin_again_say_so() -> None:
    job = made(iter([torch.ones(3, 8)]))
    job.step()
    with pytest.raises(UsageError, match="ended and cannot be begun again"):
        job.step()


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (lambda: made([]), "batches are empty"),
        (lambda: made(iter([])), "batches are empty"),
        (lambda: made(loss=lambda model, batch: model(batch)), r"single number; got a tensor of shape \(3, 4\)"),
        (lambda: measure.TrainingJob(nn.ReLU(), None, [], loss=torch.mean), "no parameters"),
    ],
)
def test_a_job_that_cannot_be_run(job: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        job().step()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: measure.profile_training(made(), steps=0), "steps must be at least 1"),
        (lambda: measure.profile_training(made(), warmup=-1), "warmup at least 0"),
        (lambda: measure.delayed(made(), {"loading": 1.0}), "goes into one of wait for data.*got 'loading'"),
        (lambda: measure.delayed(made(), {"collective": 1.0}), "goes into one of"),
        (lambda: measure.delayed(made(), {"copy": -1.0}), "at least 0 s"),
        (lambda: measure.delayed(made(), {"copy": float("nan")}), "at least 0 s"),
        (lambda: measure.profile_training(made(), steps=1).part("loading"), "parts are wait for data"),
        (
            lambda: measure.profile_training(
                made(), peak=measure.Quoted(name="", value=312, unit="TFLOP", source="a sheet")
            ),
            "in FLOP/s; got 312 TFLOP",
        ),
    ],
)
def test_bad_input(call: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call()


def test_a_profile_of_uneven_parts_is_none() -> None:
    good = measure.profile_training(made(), steps=2)
    parts = dict(good.parts_s) | {"copy": (0.0,)}
    told = {name: getattr(good, name) for name in good.__slots__} | {"parts_s": parts}
    with pytest.raises(UsageError, match="a time of each for every step"):
        measure.TrainingProfile(**told)


def event(name: str, start: float, end: float, *, device: str = "CPU", annotation: bool = False) -> Any:
    place = SimpleNamespace(name=device)
    times = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(name=name, time_range=times, device_type=place, is_user_annotation=annotation)


def test_only_what_nothing_is_computed_beside_is_charged_to_the_collective() -> None:
    on_host = [
        event("part: forward", 0, 100),
        event("part: backward", 100, 400),
        event("aten::mm", 110, 200),
        event("gloo:all_reduce", 150, 260),  # 150 to 200 is hidden
        event("aten::mm", 240, 250),  # 240 to 250 as well
        event("gloo:all_reduce", 255, 300),  # overlaps the first: counts once
    ]
    found = exposed_collectives(on_host)
    assert found["forward"] == []
    assert found["backward"] == [pytest.approx((100e-6, 140e-6)), pytest.approx((150e-6, 200e-6))]


def test_on_a_gpu_the_kernels_decide_and_not_their_launching() -> None:
    on_gpu = [
        event("part: backward", 0, 300),
        event("part: backward", 20, 300, device="CUDA", annotation=True),
        event("aten::mm", 5, 8),
        event("sgemm", 50, 120, device="CUDA"),
        event("ncclDevKernel_AllReduce", 100, 290, device="CUDA"),
    ]
    assert exposed_collectives(on_gpu)["backward"] == [pytest.approx((120e-6, 290e-6))]


def test_a_late_rank_appears_as_the_other_ones_collective() -> None:
    def one_is_late() -> measure.TrainingProfile:
        rank = torch.distributed.get_rank()
        net = nn.parallel.DistributedDataParallel(nn.Linear(8, 4))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        job = measure.TrainingJob(
            net, optimizer, [torch.ones(3, 8)], loss=lambda model, batch: model(batch).square().mean()
        )
        return measure.profile_training(measure.delayed(job, {"backward": 0.2 * rank}), steps=3)

    on_time, late = launch.run(one_is_late, ranks=2, backend="gloo").values
    assert [(one.rank, one.world_size) for one in (on_time, late)] == [(0, 2), (1, 2)]
    # It cannot be through before the late one comes; how much sooner it waits is left to the machine.
    assert on_time.bottleneck == "collective"
    assert on_time.part("collective").value > 0.1
    assert late.part("backward").value > 0.1 > late.part("collective").value
    for found in (on_time, late):
        for number, step_s in enumerate(found.step_s):
            assert sum(times[number] for times in found.parts_s.values()) == pytest.approx(step_s)
