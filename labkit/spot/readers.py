"""Public formats of spot availability: node events (Bamboo) and evenly sampled zeros and ones (SkyPilot)."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

from labkit.errors import DataError
from labkit.spot.availability import Availability

__all__ = ["read_node_events", "read_samples"]


def read_node_events(path: str | Path, *, nodes: int) -> Availability:
    """Bamboo's CSV, without a head: milliseconds, add or remove, node. Up: while at least ``nodes`` nodes are there.

    So it is what the nodes-th instance of a cluster would have seen. A node that is there already, or removed though it
    never was, is an error, as is a row that is earlier than the one before. Source: uclasystem/bamboo, traces.
    """
    path, there, since, stretches, last = Path(path), set[str](), None, list[tuple[float, float]](), 0.0
    for number, row in enumerate(_rows(path), 1):
        time_s, what, node = _event(path, number, row)
        if time_s < last:
            raise DataError(f"{path}, row {number}: {time_s:g} s is before {last:g} s. A trace must be in order.")
        if what not in ("add", "remove") or (node in there) == (what == "add"):
            state = "is there" if node in there else "is not there"
            raise DataError(f"{path}, row {number}: {what!r} of {node!r}, which {state}. Want add or remove in turns.")
        (there.add if what == "add" else there.remove)(node)
        if since is None and len(there) >= nodes:
            since = time_s
        elif since is not None and len(there) < nodes:
            stretches += [(since, time_s)] if time_s > since else []
            since = None
        last = time_s
    if not last:
        raise DataError(f"{path} holds no events that span any time. Want rows like 60000,add,node7.")
    if since is not None and last > since:
        stretches.append((since, last))
    return Availability(up=tuple(_joined(stretches)), span_s=last, source=f"{path.name}, at least {nodes} nodes")


def read_samples(path: str | Path) -> Availability:
    """SkyPilot's JSON: metadata.gap_seconds between samples, and data: 0 where spot was there, 1 where preempted."""
    path = Path(path)
    try:
        read = json.loads(path.read_text())
        gap_s, data = float(read["metadata"]["gap_seconds"]), list(read["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path} is no {{"metadata": {{"gap_seconds": …}}, "data": [0, 1, …]}}: {error!r}') from error
    if not (0 < gap_s < math.inf and data and set(data) <= {0, 1}):
        raise DataError(
            f"{path} needs gap_seconds above 0 and samples of 0 or 1; got {gap_s!r} and {len(data)} of them."
        )
    stretches = [(n * gap_s, (n + 1) * gap_s) for n, preempted in enumerate(data) if not preempted]
    return Availability(up=tuple(_joined(stretches)), span_s=gap_s * len(data), source=path.name)


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="") as file:
            return list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a trace: {error}") from error


def _event(path: Path, number: int, row: list[str]) -> tuple[float, str, str]:
    try:
        time_ms, what, node = row
        time_s = float(time_ms) / 1000
        if not 0 <= time_s < math.inf:
            raise ValueError(f"a time of {time_ms}")
    except ValueError as error:
        raise DataError(f"{path}, row {number} is {row!r}; want milliseconds, add or remove, node.") from error
    return time_s, what, node


def _joined(stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start, end in stretches:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
