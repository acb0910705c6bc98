"""When a step waits for a collective: the stretches of a torch trace in which one is under way and nothing is computed.

A collective that travels beside the backward costs nothing; only what outlasts the computing is paid for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["exposed_collectives"]

MARK = "part: "  # of the blocks that name a step's parts in the trace
Stretch = tuple[float, float]  # start and end, in the trace's microseconds


def exposed_collectives(events: Iterable[Any]) -> dict[str, list[Stretch]]:
    """Part -> (start, end) in seconds from the part's start, of the exposed stretches in it.

    events: a torch profiler's of one step whose parts are blocks named "part: …". gloo's collectives are events of its
    own threads, computing beside them the operators of any other; with nccl both are kernels on the device.
    """
    events = list(events)
    on_device = [event for event in events if event.device_type.name != "CPU" and not event.is_user_annotation]
    nccl = [event for event in on_device if event.name.startswith("nccl")]
    if nccl:
        under_way, computing = nccl, [event for event in on_device if not event.name.startswith("nccl")]
    else:
        under_way = [event for event in events if event.name.startswith("gloo:")]
        computing = [event for event in events if event.name.startswith("aten::")]
    waiting = list(_without(_union(map(_stretch, under_way)), _union(map(_stretch, computing))))
    exposed = {}
    for part in events:
        if part.name.startswith(MARK) and part.device_type.name == "CPU":
            start, end = _stretch(part)
            inside = [(max(a, start) - start, min(b, end) - start) for a, b in waiting if a < end and b > start]
            exposed[part.name.removeprefix(MARK)] = [(a / 1e6, b / 1e6) for a, b in inside]
    return exposed


def _stretch(event: Any) -> Stretch:
    return float(event.time_range.start), float(event.time_range.end)


def _union(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Stretches that overlap or touch become one; in order."""
    merged: list[Stretch] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _without(stretches: Iterable[Stretch], holes: list[Stretch]) -> Iterator[Stretch]:
    """What is left of each stretch outside every hole. Both are in order and do not overlap themselves."""
    for start, end in stretches:
        for hole_start, hole_end in holes:
            if hole_end <= start or hole_start >= end:
                continue
            if hole_start > start:
                yield start, hole_start
            start = hole_end
        if start < end:
            yield start, end
