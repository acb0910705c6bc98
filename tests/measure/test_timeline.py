"""Timelines: arithmetic of spans, and a Chrome trace that viewers accept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert [(e["ts"], e["dur"]) for e in complete] == [(1e6, 2e6), (0, 2e6), (1e6, 3e6), (7e6, 1e6)]
    assert all({"name", "cat", "pid", "tid", "args"} <= event.keys() for event in complete)
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names == {0: "b", 1: "a"}


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
