"""A panel over pipeline schedules: stages, micro-batches and chunks in, the timeline and its bubble out."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.measure import Timeline
from labkit.parallel.schedule_timeline import bubble, held_activations, simulate
from labkit.parallel.schedules import SCHEDULES, Schedule, make_schedule
from labkit.plots.picture import Picture
from labkit.plots.schedule import plot_schedules
from labkit.widgets.controls import Choice, Slider
from labkit.widgets.panel import Panel

__all__ = ["explored_schedule", "schedule_explorer"]

# Ends at which a picture is still read, and drawn in a tenth of a second.
MOST_STAGES, MOST_MICROBATCHES, MOST_CHUNKS = 8, 24, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explored:
    schedule: Schedule
    timeline: Timeline


def explored_schedule(schedule: str, stages: int, microbatches: int, chunks: int) -> Schedule:
    """The nearest schedule to what the sliders say: chunks count for the interleaved one alone, whose micro-batches
    are rounded up to whole rounds of the stages."""
    if schedule != "interleaved 1F1B":
        return make_schedule(schedule, stages, microbatches)
    return make_schedule(schedule, stages, -(-microbatches // stages) * stages, chunks)


def schedule_explorer(*, schedule: str = "1F1B", stages: int = 4, microbatches: int = 8, chunks: int = 2) -> Panel:
    """A Panel: how a schedule fills the stages, its bubble, and how many micro-batches a stage holds at most."""
    return Panel(
        _compute,
        _draw,
        {
            "schedule": Choice(options=tuple(SCHEDULES), value=schedule, label="schedule"),
            "stages": Slider(min=2, max=MOST_STAGES, value=stages, step=1, label="stages"),
            "microbatches": Slider(min=1, max=MOST_MICROBATCHES, value=microbatches, step=1, label="micro-batches"),
            "chunks": Slider(min=1, max=MOST_CHUNKS, value=chunks, step=1, label="chunks a stage (interleaved)"),
        },
        title="A pipeline's schedule, a backward twice as long as a forward",
    )


def _compute(schedule: str, stages: float, microbatches: float, chunks: float) -> _Explored:
    made = explored_schedule(schedule, int(stages), int(microbatches), int(chunks))
    return _Explored(schedule=made, timeline=simulate(made))


def _draw(explored: _Explored) -> Picture:
    made, idle = explored.schedule, bubble(explored.timeline)
    held = max(held_activations(made)) / made.num_chunks
    name = f"{made.name}, {made.num_microbatches} micro-batches"
    name += f", {made.num_chunks} chunks" if made.num_chunks > 1 else ""
    title = f"◇ Idle for {idle:.1%} of the ideal time; at most {held:.3g} micro-batches held"
    return plot_schedules({name: explored.timeline}, unit="forwards of a stage", title=title)
