"""How long the schedule explorer takes to redraw at its extremes, in the kernel."""

from __future__ import annotations

from labkit import widgets
from labkit.hardware import machine
from labkit.measure import Measured
from labkit.widgets.schedule_explorer import MOST_CHUNKS, MOST_MICROBATCHES, MOST_STAGES

__all__ = ["explorer_redraw"]

MOVES = 15


def explorer_redraw() -> Measured:
    """Seconds of the slowest redraw: the most actions, and the most that are hatched and numbered."""
    most = {"stages": MOST_STAGES, "microbatches": MOST_MICROBATCHES, "chunks": MOST_CHUNKS}
    numbered = {"schedule": "ZB-H1", "stages": MOST_STAGES, "microbatches": 10}
    settings = (most | {"schedule": "interleaved 1F1B"}, most | {"schedule": "ZB-H1"}, numbered)
    panels = [widgets.schedule_explorer(**setting) for setting in settings]
    samples = []
    for _ in range(MOVES):
        for panel in panels:
            panel.redraw()
        samples.append(max(panel.last_redraw_s for panel in panels))
    return Measured.from_samples("schedule explorer redraw", samples, "s", machine=machine().id)
