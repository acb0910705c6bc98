"""Spans on lanes: what ran where and when. Drawn by one plot and one widget, and exported as a Chrome trace."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.errors import UsageError
from labkit.measure.chrome import chrome_trace

__all__ = ["Recorder", "Span", "Timeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One thing that ran on one lane, from start_s to end_s on any clock that the whole timeline shares."""

    lane: str
    name: str
    start_s: float
    end_s: float
    category: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and math.isfinite(self.end_s)):
            raise UsageError(f"A span needs finite times; {self.name!r} goes {self.start_s} to {self.end_s} s.")
        if self.start_s > self.end_s:
            raise UsageError(
                f"A span must not end before it starts; {self.name!r} goes {self.start_s} to {self.end_s} s."
            )

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Spans in any order; lanes keep the order in which they first appear."""

    spans: tuple[Span, ...]
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", tuple(self.spans))

    @property
    def lanes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(span.lane for span in self.spans))

    @property
    def start_s(self) -> float:
        return min((span.start_s for span in self.spans), default=0.0)

    @property
    def end_s(self) -> float:
        return max((span.end_s for span in self.spans), default=0.0)

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    def of(self, lane: str) -> tuple[Span, ...]:
        """A lane's spans by their start."""
        return tuple(sorted((s for s in self.spans if s.lane == lane), key=lambda s: (s.start_s, s.end_s)))

    def busy_s(self, lane: str) -> float:
        """Seconds in which the lane has at least one span; overlapping spans count once."""
        busy, reached = 0.0, float("-inf")
        for span in self.of(lane):
            busy += max(0.0, span.end_s - max(span.start_s, reached))
            reached = max(reached, span.end_s)
        return busy

    def utilisation(self, lane: str) -> float:
        """Share of the whole timeline in which the lane is busy, 0 to 1."""
        return self.busy_s(lane) / self.duration_s if self.duration_s else 0.0

    def at(self, time_s: float) -> dict[str, Span | None]:
        """What each lane does at a moment; of nested spans the one that started last."""
        inside: dict[str, Span | None] = dict.fromkeys(self.lanes)
        for lane in self.lanes:
            for span in self.of(lane):
                if span.start_s <= time_s < span.end_s:
                    inside[lane] = span
        return inside

    def to_chrome_trace(self) -> dict[str, Any]:
        """The Trace Event Format (complete events, microseconds), which Perfetto and chrome://tracing open."""
        return chrome_trace(self)

    def save(self, path: str | Path) -> Path:
        """Write the Chrome trace; open it at ui.perfetto.dev."""
        target = Path(path)
        target.write_text(json.dumps(self.to_chrome_trace(), allow_nan=False), encoding="utf-8")
        return target

    @classmethod
    def merge(cls, timelines: Iterable[Timeline], title: str = "") -> Timeline:
        """Several timelines of one clock as one."""
        return cls(spans=tuple(span for timeline in timelines for span in timeline.spans), title=title)


class Recorder:
    """Collects spans while code runs: ``with recorder.span("rank 0", "forward"): …``"""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._spans: list[Span] = []

    @contextmanager
    def span(self, lane: str, name: str, category: str = "", **args: Any) -> Iterator[None]:
        """Record what the block takes, also when it raises."""
        started = self._clock()
        try:
            yield
        finally:
            end = self._clock()
            self._spans.append(
                Span(lane=lane, name=name, start_s=started, end_s=end, category=category or name, args=args)
            )

    def timeline(self, title: str = "") -> Timeline:
        return Timeline(spans=tuple(self._spans), title=title)
