"""The accounts of a supervised job: where each second and each cent went."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labkit.measure import Span, Timeline
from labkit.spot.situation import ON_DEMAND, SPOT

__all__ = ["PARTS", "Attempt", "Ledger"]

PARTS = ("useful", "saving", "lost", "starting", "ending", "waiting")
NAMES = {SPOT: "spot", ON_DEMAND: "on demand"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One instance, from its request to its end. events: (time, what, value) as `Worker` told them.

    reclaimed: the market ended it; else the job was done, or the policy moved it. taken_s: when it was killed, if it
    was; its last process had gone at end_s.
    """

    kind: int
    start_s: float
    end_s: float
    events: tuple[tuple[float, str, int], ...]
    reclaimed: bool
    taken_s: float = math.inf

    @property
    def ready_s(self) -> float:
        """When its first step could begin; its end where it never came to that."""
        return min([at for at, what, _ in self.events if what == "ready"] or [self.end_s])

    @property
    def kept(self) -> int:
        """Units of work that are safe after it."""
        return max([value for _, what, value in self.events if what in ("ready", "saved")] or [0])

    def spans(self, kept: int) -> list[tuple[str, float, float]]:
        """(part, start, end) without a hole, from its start to its end. kept: units that outlived it."""
        spans, reached, saving = [("starting", self.start_s, self.ready_s)], self.ready_s, False
        for at, what, value in self.events:
            if what in ("did", "saving", "saved") and at <= self.end_s:
                part = "saving" if what == "saved" else "useful" if value <= kept else "lost"
                spans.append((part, reached, at))
                reached, saving = at, what == "saving"
        taken_s = max(reached, min(self.taken_s, self.end_s)) if self.reclaimed else self.end_s
        last = ("lost" if self.reclaimed else "saving" if saving else "ending", reached, taken_s)
        return [*spans, last, ("ending", taken_s, self.end_s)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All attempts of one job, in order. start_s to end_s is the job's time; price_usd_per_h of on demand and spot."""

    attempts: tuple[Attempt, ...]
    start_s: float
    end_s: float
    spot_price_usd_per_h: float
    on_demand_price_usd_per_h: float

    @property
    def elapsed_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def reclaims(self) -> int:
        return sum(attempt.reclaimed for attempt in self.attempts)

    @property
    def usd(self) -> float:
        """Every second of an instance, from its request to its end, at its price."""
        return sum((a.end_s - a.start_s) / 3600 * self._price(a.kind) for a in self.attempts)

    @property
    def starts_s(self) -> tuple[float, ...]:
        """From the request of each instance to its first step, of those that came to one."""
        return tuple(a.ready_s - a.start_s for a in self.attempts if a.ready_s < a.end_s)

    def gaps_s(self) -> tuple[float, ...]:
        """From the kill of each instance that was reclaimed to the first step of the next."""
        pairs = zip(self.attempts, self.attempts[1:], strict=False)
        return tuple(after.ready_s - min(before.taken_s, before.end_s) for before, after in pairs if before.reclaimed)

    def unit_times_s(self) -> tuple[float, ...]:
        """Of each unit of work that followed another, or the first step's readiness, with nothing between."""
        return self._times("did", ("ready", "did", "saved"))

    def saves_s(self) -> tuple[float, ...]:
        """Of each save that came to its end."""
        return self._times("saved", ("saving", "did"))

    def _times(self, what: str, behind: tuple[str, ...]) -> tuple[float, ...]:
        pairs = (pair for a in self.attempts for pair in zip(a.events, a.events[1:], strict=False))
        return tuple(after[0] - before[0] for before, after in pairs if after[1] == what and before[1] in behind)

    def timeline(self) -> Timeline:
        """Two lanes, spot and on demand, and a third for the time in which nothing ran."""
        spans, reached = [], self.start_s
        for attempt in self.attempts:
            if attempt.start_s > reached:
                spans.append(Span(lane="nothing", name="waiting", start_s=reached, end_s=attempt.start_s))
            reached = max(reached, attempt.end_s)
            lane = NAMES[attempt.kind]
            for name, start, end in _joined(attempt.spans(self._outlived(attempt))):
                spans.append(Span(lane=lane, name=name, category=name, start_s=start, end_s=end))
        return Timeline(spans=tuple(spans))

    def parts_s(self, start_s: float | None = None, end_s: float | None = None) -> dict[str, float]:
        """Seconds of each part, from start_s to end_s (the whole job's where not given); they add up to that time."""
        low, high = self.start_s if start_s is None else start_s, self.end_s if end_s is None else end_s
        parts = dict.fromkeys(PARTS, 0.0)
        for span in self.timeline().spans:
            parts[span.name] += max(0.0, min(span.end_s, high) - max(span.start_s, low))
        parts["waiting"] += (high - low) - sum(parts.values())  # behind the last instance's end
        return parts

    def goodput(self) -> float:
        """Useful ÷ elapsed, over whole lives: from the first instance's first step to the first one of the last."""
        lives = [a.ready_s for a in self.attempts if a.ready_s < a.end_s]
        if len(lives) < 2:
            return self.parts_s()["useful"] / self.elapsed_s
        return self.parts_s(lives[0], lives[-1])["useful"] / (lives[-1] - lives[0])

    def _price(self, kind: int) -> float:
        return self.spot_price_usd_per_h if kind == SPOT else self.on_demand_price_usd_per_h

    def _outlived(self, attempt: Attempt) -> int:
        return attempt.kept if attempt.reclaimed else max([value for _, _, value in attempt.events[1:]] or [0])


def _joined(spans: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Neighbours of one part as one span, empty ones left out."""
    joined: list[tuple[str, float, float]] = []
    for name, start, end in spans:
        if joined and joined[-1][0] == name:
            joined[-1] = (name, joined[-1][1], end)
        elif end > start:
            joined.append((name, start, end))
    return joined
