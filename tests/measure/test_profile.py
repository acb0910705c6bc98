"""The profile of a real training step, held to what is known of it."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent
from torch.profiler import record_function

from labkit import hardware
from labkit.errors import UsageError
from labkit.measure import profile


def test_a_training_step_taken_apart() -> None:
    x, weights = torch.randn(64, 128), torch.randn(128, 256, requires_grad=True)

    def step() -> None:
        (x @ weights).relu().sum().backward()

    found = profile(step, steps=3)
    matmul = next(row for row in found.rows if row.name == "aten::mm")
    # Forward x @ w and backward x.T @ g (x needs no gradient): two matmuls a step, each 2·m·k·n FLOPs.
    assert (matmul.calls, matmul.flops) == (6, 6 * 2 * 64 * 128 * 256)
    assert [row.self_s for row in found.rows] == sorted((row.self_s for row in found.rows), reverse=True)
    assert all(row.self_s <= row.total_s + 1e-9 for row in found.rows)
    assert found.self_s > 0
    table = found.table()
    assert table["share"].sum() == pytest.approx(1)
    assert set(table.columns) == {"name", "calls", "self_s", "total_s", "flops", "share"}


def test_a_models_blocks_stand_on_the_timeline_and_fit_into_the_wall_time() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    x = torch.randn(64, 128)

    def step() -> None:
        with record_function("forward"):
            loss = net(x).sum()
        with record_function("backward"):
            loss.backward()

    found = profile(step, steps=2)
    timeline = found.timeline()
    # A CPU backward runs on the thread that asked for it. So there is one lane, and no work outside the two blocks.
    (lane,) = timeline.lanes
    assert [span.name for span in timeline.of(lane)] == ["forward", "backward"] * 2
    # Each moment of a block is some operator's own: the rows add up to the spans, to the profiler's nanosecond.
    assert found.self_s == pytest.approx(timeline.busy_s(lane), rel=1e-6)
    # One thread cannot work for longer than the wall clock ran; the two clocks differ by far less than a tenth.
    assert 0 < timeline.busy_s(lane) <= timeline.duration_s <= 1.1 * found.wall_s
    by_name = {row.name: row for row in found.rows}
    assert by_name["forward"].total_s >= by_name["aten::linear"].total_s
    # Forward of both layers, by the closed form; addmm is where torch counts them.
    assert by_name["aten::addmm"].flops == 2 * 2 * 64 * (128 * 256 + 256 * 10)


def test_a_step_without_operators_gives_an_empty_profile() -> None:
    found = profile(lambda: None, steps=2)
    assert (found.rows, found.spans, found.self_s, found.timeline().duration_s) == ((), (), 0, 0)
    assert found.wall_s > 0
    assert found.table().empty


def test_a_kernels_time_counts_once_and_stands_on_its_stream() -> None:
    """Events as torch gives them from a GPU: the kernel both under its operator and as an event of its own."""
    host = {"thread": 1, "use_device": "cuda", "device_type": DeviceType.CPU, "stack": []}
    stream = {**host, "thread": 7, "device_type": DeviceType.CUDA, "device_index": 0, "device_resource_id": 7}
    linear = FunctionEvent(id=1, name="aten::linear", start_us=5, end_us=40, **host)
    matmul = FunctionEvent(id=2, name="aten::mm", start_us=10, end_us=30, flops=100, **host)
    matmul.append_kernel("sgemm", 0, 500)
    kernel = FunctionEvent(id=3, name="sgemm", start_us=50, end_us=550, **stream)
    block = FunctionEvent(id=4, name="forward", start_us=45, end_us=600, is_user_annotation=True, **stream)
    events = EventList([linear, matmul, kernel, block], use_device="cuda", with_flops=True)
    events._build_tree()
    module = importlib.import_module("labkit.measure.profile")  # the package's `profile` is the function
    rows = module._rows(events, on_gpu=True)
    assert [(row.name, row.self_s, row.total_s) for row in rows] == [
        ("aten::mm", pytest.approx(5e-4), pytest.approx(5e-4)),
        ("aten::linear", 0, pytest.approx(5e-4)),
    ]
    lanes = [(span.lane, span.name) for span in module._spans(events)]
    assert lanes == [("thread 1", "aten::linear"), ("GPU 0 stream 7", "sgemm")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"steps": 0}, "steps must be"), ({"warmup": -1}, "warmup"), ({"device": "tpu"}, "got 'tpu'")],
)
def test_bad_input(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        profile(lambda: None, **arguments)


@pytest.mark.skipif(hardware.machine().device == "cuda", reason="only a machine without a GPU can refuse one")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(UsageError, match='Use device="cpu"'):
        profile(lambda: None, device="cuda")
