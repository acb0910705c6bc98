"""What a repair gains by Amdahl's law, and a request for devices that cannot be made without a profile."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from labkit import measure
from labkit.errors import UsageError

PEAK = measure.Quoted(name="peak", value=1e9, unit="FLOP/s", source="a data sheet")
PARTS = {"wait for data": 5.0, "forward": 1.0, "backward": 2.0, "optimizer": 1.0, "other": 1.0}


def profiled(parts_s: dict[str, float] | None = None, *, steps: int = 6, **changes: Any) -> measure.TrainingProfile:
    parts_s = PARTS if parts_s is None else parts_s
    step_s = (sum(parts_s.values()),) * steps
    fields: dict[str, Any] = {
        "name": "a job", "parts_s": {part: (parts_s.get(part, 0.0),) * steps for part in measure.PARTS},
        "step_s": step_s, "plain_s": step_s, "cpu_s": step_s, "flops": 2_000_000_000, "peak": PEAK,
        "device": "cpu", "num_threads": 1, "machine": "abc",
    }  # fmt: skip
    return measure.TrainingProfile(**fields | changes)


def asked(**changes: Any) -> measure.CapacityRequest:
    fields = {
        "job": "a code model", "reason": "It is due in May.", "devices_now": 8, "devices_asked": 16, "hours": 100.0,
        "wanted_speedup": 1.8, "profile": profiled(),
    }  # fmt: skip
    return measure.CapacityRequest(**fields | changes)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("factor", [0.5, 2.0, 64.0, math.inf])
def test_amdahls_law(share: float, factor: float) -> None:
    expected = 1 / ((1 - share) + share / factor)
    assert measure.speedup({"serial": 1 - share, "parallel": share}, {"parallel": factor}) == pytest.approx(expected)


def test_repairs_add_up_in_time_and_not_in_gains() -> None:
    parts = {"a": 4.0, "b": 4.0, "c": 2.0}
    one, both = measure.speedup(parts, {"a": math.inf}), measure.speedup(parts, {"a": math.inf, "b": math.inf})
    assert (one, both) == pytest.approx((10 / 6, 5.0))  # more than twice what each gives alone


def test_gains_are_ordered_and_a_faster_device_shortens_its_own_parts() -> None:
    profile = profiled()
    found = measure.gains(profile)
    assert (found[0].name, found[0].value) == ("without wait for data", 2.0)
    assert [gain.value for gain in found] == sorted((gain.value for gain in found), reverse=True)
    assert measure.gain_of_faster_device(profile, 2).value == pytest.approx(10 / 8)
    assert measure.gain_of_faster_device(profile, math.inf).value == pytest.approx(10 / 6)
    mixed = measure.predict_gain(profile, {"wait for data": math.inf, "forward": 2.0})
    assert (mixed.name, mixed.value) == ("without wait for data and forward 2× as fast", pytest.approx(10 / 4.5))


def test_the_interval_is_that_of_the_steps() -> None:
    parts_s = dict.fromkeys(measure.PARTS, (0.0,) * 6)
    parts_s |= {"wait for data": (1.0, 1.0, 2.0, 2.0, 3.0, 3.0), "forward": (1.0,) * 6}
    steps_s = tuple(sum(times) for times in zip(*parts_s.values(), strict=True))
    uneven = replace(profiled(), parts_s=parts_s, step_s=steps_s, plain_s=steps_s)
    gain = measure.predict_gain(uneven, {"wait for data": math.inf})
    assert (gain.low, gain.value, gain.high) == (2.0, 3.0, 4.0)


def test_the_document_holds_the_figures_of_the_profile() -> None:
    request = asked()
    text = request.document()
    for told in (
        "16 devices instead of 8, for 100 h (1,600 device-hours)",
        "Computed ÷ peak: 20%",
        "Has work: 40%",
        "| wait for data | 5 s | 50% |",
        "the largest part is wait for data",
        "At most 1.25×",
        "without wait for data: 2.00×",
    ):
        assert told in text
    assert len(request.objections) == 2
    assert all(objection in text for objection in request.objections)
    assert json.loads(json.dumps(request.to_dict()))["profile"]["bottleneck"] == "wait for data"


def test_nothing_is_objected_where_the_device_is_the_bottleneck() -> None:
    healthy = asked(profile=profiled({"forward": 3.0, "backward": 6.0, "optimizer": 0.95, "wait for data": 0.05}))
    assert healthy.objections == ()
    assert "None from this profile" in healthy.document()
    assert "None above 1 %" in healthy.document()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"profile": None}, "needs the profile of the job that it is for; got none"),
        ({"profile": "85 % by nvidia-smi"}, "got a str"),
        ({"profile": profiled(steps=4)}, "at least 5 steps; got 4 steps"),
        ({"profile": profiled(peak=None)}, "without a peak"),
        ({"job": " "}, "names its job"),
        ({"reason": ""}, "names its job and its reason"),
        ({"devices_asked": 8}, "More devices"),
        ({"devices_now": 0}, "at least 1; got 0"),
        ({"hours": 0.0}, "hours must be above 0"),
        ({"hours": math.nan}, "hours must be above 0"),
        ({"wanted_speedup": 1.0}, "wanted_speedup above 1"),
    ],
)
def test_a_request_that_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        asked(**changes)


@pytest.mark.parametrize(
    ("parts", "factors", "words"),
    [
        ({"a": 1.0}, {"b": 2.0}, "parts are a; got 'b'"),
        ({"a": 1.0}, {"a": 0.0}, "above 0; got 0.0"),
        ({"a": 1.0}, {"a": math.nan}, "above 0; got nan"),
        ({"a": 1.0}, {"a": math.inf}, "Nothing of the step would be left"),
    ],
)
def test_a_gain_that_cannot_be_meant(parts: dict[str, float], factors: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        measure.speedup(parts, factors)
