"""How long the schedule explorer takes to redraw at its extremes, in the kernel."""

from __future__ import annotations

from labkit import widgets
from labkit.hardware import machine
from labkit.measure import Measured
from labkit.widgets.schedule_explorer import MOST_CHUNKS, MOST_MICROBATCHES, MOST_STAGES

__all__ = ["explorer_redraw"]

MOVES = 15


def explorer_redraw() -> Measured:
    """Seconds of one redraw with the most stages, micro-batches and chunks of the interleaved schedule."""
    panel = widgets.schedule_explorer(
        schedule="interleaved 1F1B", stages=MOST_STAGES, microbatches=MOST_MICROBATCHES, chunks=MOST_CHUNKS
    )
    samples = []
    for _ in range(MOVES):
        panel.redraw()
        samples.append(panel.last_redraw_s)
    return Measured.from_samples("schedule explorer redraw", samples, "s", machine=machine().id)
