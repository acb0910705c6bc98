"""Timelines: arithmetic of spans, and a Chrome trace that viewers accept."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.measure import Recorder, Span, Timeline


def span(lane: str, start_s: float, end_s: float, name: str = "x") -> Span:
    return Span(lane=lane, name=name, start_s=start_s, end_s=end_s)


TIMELINE = Timeline(spans=(span("b", 2, 4), span("a", 1, 3), span("a", 2, 5, "inner"), span("a", 8, 9)), title="demo")


def test_lanes_keep_their_order_and_times_add_up() -> None:
    assert TIMELINE.lanes == ("b", "a")
    assert (TIMELINE.start_s, TIMELINE.end_s, TIMELINE.duration_s) == (1, 9, 8)
    assert TIMELINE.busy_s("a") == 5  # 1 to 5 and 8 to 9: the overlap counts once
    assert TIMELINE.utilisation("b") == 0.25


def test_what_runs_at_a_moment() -> None:
    now = TIMELINE.at(2.5)
    assert now["a"] is not None
    assert now["a"].name == "inner"
    assert TIMELINE.at(4) == {"b": None, "a": TIMELINE.spans[2]}  # ends are open
    assert TIMELINE.at(7) == {"b": None, "a": None}


def test_an_empty_timeline_is_one() -> None:
    empty = Timeline(spans=())
    assert (empty.lanes, empty.duration_s, empty.utilisation("a")) == ((), 0, 0)
    assert [event["ph"] for event in empty.to_chrome_trace()["traceEvents"]] == ["M"]


def test_chrome_trace_follows_the_trace_event_format(tmp_path: Path) -> None:
    trace = json.loads(TIMELINE.save(tmp_path / "trace.json").read_text())
    assert {event["ph"] for event in trace["traceEvents"]} == {"X", "M"}
    assert {event["pid"] for event in trace["traceEvents"]} == {1}  # 0 is the kernel's idle process to viewers
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert all({"name", "cat", "pid", "tid", "ts", "dur", "args"} <= event.keys() for event in complete)
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names == {1: "b", 2: "a", 3: "a (2)"}  # a's first two overlap and do not nest: two threads
    assert [(names[e["tid"]], e["ts"], e["dur"]) for e in complete] == [
        ("b", 1e6, 2e6),
        ("a", 0, 2e6),
        ("a", 7e6, 1e6),
        ("a (2)", 1e6, 3e6),
    ]
    assert {e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"} == {"demo"}


def nested(events: list[dict[str, Any]]) -> bool:
    """What viewers ask of one thread's complete events, read with a stack in whole nanoseconds."""
    ends: list[int] = []
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        start, end = round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)
        while ends and ends[-1] <= start:
            ends.pop()
        if ends and end > ends[-1]:
            return False
        ends.append(end)
    return True


instants = st.floats(0, 10).map(lambda t: 1e5 + t) | st.integers(0, 6).map(float)


@given(st.lists(st.tuples(st.sampled_from("ab"), instants, instants), max_size=20))
def test_every_span_reaches_a_thread_on_which_it_nests(drawn: list[tuple[str, float, float]]) -> None:
    spans = [Span(lane=lane, name=str(i), start_s=min(t), end_s=max(t)) for i, (lane, *t) in enumerate(drawn)]
    timeline = Timeline(spans=tuple(spans))
    threads: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in timeline.to_chrome_trace()["traceEvents"]:
        if event["ph"] == "X":
            threads[event["tid"]].append(event)
    assert all(nested(events) for events in threads.values())
    seen = {e["name"]: (e["ts"] / 1e6 + timeline.start_s, e["dur"] / 1e6) for es in threads.values() for e in es}
    assert seen == {s.name: (pytest.approx(s.start_s), pytest.approx(s.duration_s, abs=2e-9)) for s in spans}


def test_properly_nested_and_touching_spans_stay_on_one_thread() -> None:
    steps = [i / 10 for i in range(8)]  # sums of tenths, whose ends meet only after rounding
    spans = [span("a", start, end) for start, end in pairwise(steps)] + [span("a", 0, 0.7, "whole")]
    threads = {e["tid"] for e in Timeline(spans=tuple(spans)).to_chrome_trace()["traceEvents"] if e["ph"] == "X"}
    assert len(threads) == 1


def test_a_trace_is_json_whatever_the_spans_carry(tmp_path: Path) -> None:
    args = {"loss": math.nan, "shape": (2, 3), "step": 4, "final": True, "rate": 0.5, "why": None}
    odd = Timeline(spans=(Span(lane="a", name="é", start_s=0, end_s=1, args=args),))
    text = odd.save(tmp_path / "trace.json").read_text()
    event = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["traceEvents"][-1]
    assert event["args"] == {"loss": "nan", "shape": "(2, 3)", "step": 4, "final": True, "rate": 0.5, "why": None}
    assert event["name"] == "é"


def test_recorder_records_also_what_raises() -> None:
    ticks = iter([1.0, 2.0, 3.0, 5.0])
    recorder = Recorder(clock=lambda: next(ticks))
    with recorder.span("rank 0", "forward", batch=4):
        pass
    with pytest.raises(ZeroDivisionError), recorder.span("rank 0", "backward"):
        _ = 1 / 0
    timeline = recorder.timeline("step")
    assert [(s.name, s.start_s, s.end_s) for s in timeline.spans] == [("forward", 1, 2), ("backward", 3, 5)]
    assert timeline.spans[0].args == {"batch": 4}


def test_merge_and_backward_span() -> None:
    merged = Timeline.merge([TIMELINE, Timeline(spans=(span("c", 0, 1),))], title="both")
    assert merged.lanes == ("b", "a", "c")
    with pytest.raises(UsageError, match="must not end before it starts"):
        span("a", 2, 1)
    with pytest.raises(UsageError, match="needs finite times"):
        span("a", 0, math.inf)
