"""A pipeline schedule on a clock: simulated with given durations, its bubble, and what each stage holds meanwhile."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

from labkit.errors import UsageError
from labkit.measure import Span, Timeline
from labkit.parallel.schedule_order import Piece, needs, run_order
from labkit.parallel.schedules import Action, Schedule

__all__ = ["KINDS", "Durations", "bubble", "fit_durations", "held_activations", "simulate", "stage_span"]

KINDS = {"F": "forward", "B": "backward", "W": "weights"}  # a span's category


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Seconds that a whole stage takes for one micro-batch; a tuple where the stages differ, one value a stage.

    backward_s: twice the forward where it is None. weights_share: of a backward that is cut in two, the weights' part.
    send_s: from the end of an action to the moment at which another stage may use what it gave.
    """

    forward_s: float | tuple[float, ...] = 1.0
    backward_s: float | tuple[float, ...] | None = None
    weights_share: float = 0.5
    send_s: float = 0.0

    def __post_init__(self) -> None:
        given = [*_values(self.forward_s), *_values(self.backward_s if self.backward_s is not None else 1.0)]
        if not all(0 < value < math.inf for value in given):
            raise UsageError(f"Every action must take a finite time above 0 s; got {self}.")
        if self.backward_s is not None and len(_values(self.forward_s)) != len(_values(self.backward_s)):
            raise UsageError(f"forward_s and backward_s must both be one value, or both one a stage; got {self}.")
        if not (0 <= self.weights_share < 1 and 0 <= self.send_s < math.inf):
            raise UsageError(f"weights_share must lie in 0 to 1 and send_s be at least 0; got {self}.")

    @property
    def by_stage(self) -> tuple[tuple[float, float], ...]:
        """(forward, backward) of each stage; one pair where all are alike."""
        backward_s = tuple(2 * f for f in _values(self.forward_s)) if self.backward_s is None else self.backward_s
        return tuple(zip(_values(self.forward_s), _values(backward_s), strict=True))

    def with_send(self, send_s: float) -> Durations:
        """The same stages, with another way between them."""
        return replace(self, send_s=send_s)

    def of(self, action: Action, stage: int, schedule: Schedule) -> float:
        """Seconds of one action; a chunk takes its share of the stage's."""
        if action.kind == "F":
            return _at(self.forward_s, stage) / schedule.num_chunks
        whole_s = 2 * _at(self.forward_s, stage) if self.backward_s is None else _at(self.backward_s, stage)
        if schedule.splits_backward:
            whole_s *= self.weights_share if action.kind == "W" else 1 - self.weights_share
        return whole_s / schedule.num_chunks


def simulate(schedule: Schedule, durations: Durations | None = None) -> Timeline:
    """When each action runs if a stage starts it as soon as it is free and what it needs has arrived. A lane a stage.

    Sending takes nothing of the stages' own time. UsageError where the schedule cannot run.
    """
    durations = durations or Durations()
    for given in (durations.forward_s, durations.backward_s):
        if isinstance(given, tuple) and len(given) != schedule.num_stages:
            raise UsageError(f"Durations by stage need one value a stage; got {len(given)} for {schedule.num_stages}.")
    ended: dict[Piece, float] = {}
    free = [0.0] * schedule.num_stages
    spans: list[list[Span]] = [[] for _ in free]  # by stage: one that starts late still has its own place
    for stage, action in run_order(schedule):
        start = free[stage]
        for piece in needs(schedule, stage, action):
            away = schedule.stage_of(piece[1]) != stage
            start = max(start, ended[piece] + (durations.send_s if away else 0.0))
        end = start + durations.of(action, stage, schedule)
        free[stage] = ended[action.kind, schedule.part(stage, action.chunk), action.microbatch] = end
        spans[stage].append(stage_span(stage, action, start, end))
    return Timeline(spans=tuple(span for row in spans for span in row), title=schedule.name)


def stage_span(stage: int, action: Action, start_s: float, end_s: float) -> Span:
    """An action as a span, simulated or measured."""
    args = {"microbatch": action.microbatch, "chunk": action.chunk}
    lane, category = f"stage {stage}", KINDS[action.kind]
    return Span(lane=lane, name=str(action), start_s=start_s, end_s=end_s, category=category, args=args)


def bubble(timeline: Timeline) -> float:
    """Idle ÷ ideal over all stages: from the first action of any to the last, what no stage worked in ÷ what it did."""
    busy_s = sum(span.duration_s for span in timeline.spans)  # the actions of a stage never overlap
    if not busy_s:
        raise UsageError("A bubble needs a timeline with actions that take time.")
    return (len(timeline.lanes) * timeline.duration_s - busy_s) / busy_s


def held_activations(schedule: Schedule) -> tuple[int, ...]:
    """For each stage, how many chunks' activations it holds at most: from a chunk's forward to its last action.

    With one chunk a stage these are micro-batches; with v, each is 1/v of a stage's layers.
    """
    last = "W" if schedule.splits_backward else "B"
    peaks = []
    for row in schedule.actions:
        held, peak = 0, 0
        for action in row:
            held += (action.kind == "F") - (action.kind == last)
            peak = max(peak, held + (action.kind == last))
        peaks.append(peak)
    return tuple(peaks)


def fit_durations(timelines: Iterable[Timeline], *, num_chunks: int = 1) -> Durations:
    """Durations by stage from measured timelines of schedules without W: the median of each stage's actions."""
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for timeline in timelines:
        for span in timeline.spans:
            taken[span.lane, span.category].append(span.duration_s)
    lanes = sorted({lane for lane, _ in taken}, key=lambda lane: int(lane.split()[1]))
    if not lanes or any(not taken.get((lane, kind)) for lane in lanes for kind in ("forward", "backward")):
        raise UsageError("Durations need a forward and a backward of every stage; measure at least one step.")
    by_kind = [tuple(num_chunks * median(taken[lane, kind]) for lane in lanes) for kind in ("forward", "backward")]
    return Durations(forward_s=by_kind[0], backward_s=by_kind[1])


def _values(given: float | tuple[float, ...]) -> tuple[float, ...]:
    return given if isinstance(given, tuple) else (given,)


def _at(given: float | tuple[float, ...], stage: int) -> float:
    return given[stage] if isinstance(given, tuple) else given
