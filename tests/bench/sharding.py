"""How long the memory bar takes from a turned control to a new picture, in the kernel."""

from __future__ import annotations

from labkit import widgets
from labkit.hardware import machine
from labkit.measure import Measured

__all__ = ["memory_bar_redraw"]

ROUNDS = 15


def memory_bar_redraw() -> Measured:
    """Seconds of the redraw at the slowest extreme of its controls, the same one every round."""
    panel = widgets.memory_bar()
    panel.sweep()  # warms up fonts and layout
    swept = [[step.redraw_s for step in panel.sweep()] for _ in range(ROUNDS)]
    slowest = max(zip(*swept, strict=True), key=lambda times: sorted(times)[len(times) // 2])
    return Measured.from_samples("memory bar redraw", slowest, "s", machine=machine().id)
