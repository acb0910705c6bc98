"""How long a panel takes from a moved slider to a new picture, in the kernel."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from labkit import plots, widgets
from labkit.hardware import machine
from labkit.measure import Measured

MOVES = 40


def _draw(values: np.ndarray) -> Figure:
    figure, axes = plots.new_plot("A line with two hundred points", "x", "y")
    axes.plot(np.linspace(0, 10, 200), values)
    return figure


def redraw() -> Measured:
    """Seconds of compute, render and drawing after each of 40 moves of a slider."""
    panel = widgets.Panel(
        lambda scale: np.sin(scale * np.linspace(0, 10, 200)),
        _draw,
        {"scale": widgets.Slider(min=1, max=50, value=1, step=1, label="scale")},
    )
    samples = []
    for move in range(2, MOVES + 2):
        panel.inputs["scale"].value = move
        panel.redraw()
        samples.append(panel.last_redraw_s)
    return Measured.from_samples("panel redraw", samples, "s", machine=machine().id)
