"""A timeline in the Trace Event Format (JSON), which ui.perfetto.dev and chrome://tracing open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.measure.timeline import Span, Timeline

__all__ = ["chrome_trace"]

PID = 1  # not 0, which is the kernel's idle process: Perfetto treats it as such (google/perfetto#394)


def chrome_trace(timeline: Timeline) -> dict[str, Any]:
    """Complete events ("X", microseconds from the start) and metadata that names a thread for each lane.

    Events of one thread must nest, and Perfetto drops those that do not (google/perfetto#4280). So spans of a lane
    that overlap without nesting stand on further threads, named "lane (2)" and so on.
    """
    threads = [(name, spans) for lane in timeline.lanes for name, spans in _threads(lane, timeline.of(lane))]
    events: list[dict[str, Any]] = [_metadata("process_name", 0, {"name": timeline.title or "labkit"})]
    for tid, (name, spans) in enumerate(threads, start=1):
        events.append(_metadata("thread_name", tid, {"name": name}))
        events.append(_metadata("thread_sort_index", tid, {"sort_index": tid}))
        events.extend(_complete(span, tid, timeline.start_s) for span in spans)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _metadata(name: str, tid: int, args: Mapping[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": PID, "tid": tid, "args": dict(args)}


def _complete(span: Span, tid: int, origin_s: float) -> dict[str, Any]:
    # Both ends are rounded, to viewers' nanoseconds: what touches in the timeline touches in the trace.
    start_ns, end_ns = _ns(span.start_s - origin_s), _ns(span.end_s - origin_s)
    return {
        "ph": "X",
        "name": span.name,
        "cat": span.category or "span",
        "pid": PID,
        "tid": tid,
        "ts": start_ns / 1000,
        "dur": (end_ns - start_ns) / 1000,
        "args": {key: _plain(value) for key, value in span.args.items()},
    }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _threads(lane: str, spans: Iterable[Span]) -> list[tuple[str, list[Span]]]:
    """A lane's spans over as few threads as the first that fits gives, properly nested in each."""
    threads: list[list[Span]] = []
    open_ends: list[list[float]] = []  # a thread's open spans, the outermost first
    for span in sorted(spans, key=lambda s: (s.start_s, -s.end_s)):  # the outer of two that start together first
        for ends in open_ends:
            while ends and ends[-1] <= span.start_s:
                ends.pop()
        fits = (index for index, ends in enumerate(open_ends) if not ends or span.end_s <= ends[-1])
        index = next(fits, len(threads))
        if index == len(threads):
            threads.append([])
            open_ends.append([])
        threads[index].append(span)
        open_ends[index].append(span.end_s)
    return [(lane if index == 0 else f"{lane} ({index + 1})", spans) for index, spans in enumerate(threads)]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity, and knows no other objects: those are written out as text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)
