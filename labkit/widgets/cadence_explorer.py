"""A panel over the cadence: what a write costs and how often failures come in, goodput and the optimum out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labkit.checkpoint import optimal_interval
from labkit.checkpoint.cadence import METHODS
from labkit.plots.checkpoint import plot_cadence
from labkit.plots.picture import Picture
from labkit.spot import expected_goodput
from labkit.widgets.controls import Slider
from labkit.widgets.panel import Panel

__all__ = ["cadence_explorer"]

POINTS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explored:
    curve: dict[float, float]
    marks: dict[str, tuple[float, float]]


def cadence_explorer(*, write_s: float = 60.0, restart_s: float = 120.0, mtbf_h: float = 3.0) -> Panel:
    """A Panel: goodput over the interval, and the intervals of Young, Daly and the exact optimum."""
    return Panel(
        _compute,
        _draw,
        {
            "write_s": Slider(min=0.1, max=600.0, value=write_s, step=0.1, label="a write stalls for", unit="s"),
            "restart_s": Slider(min=0.0, max=1200.0, value=restart_s, step=10.0, label="a restart takes", unit="s"),
            "mtbf_h": Slider(min=0.1, max=48.0, value=mtbf_h, step=0.1, label="a failure every", unit="h"),
        },
        title="How often to write a checkpoint",
    )


def _compute(write_s: float, restart_s: float, mtbf_h: float) -> _Explored:
    mtbf_s = 3600 * mtbf_h
    best = optimal_interval(write_s, mtbf_s)
    intervals = np.geomspace(best / 30, best * 30, POINTS)
    curve = {float(t): expected_goodput(float(t), write_s, restart_s, mtbf_s) for t in intervals}
    marks = {}
    for method in METHODS:
        interval = optimal_interval(write_s, mtbf_s, method)
        if interval > 0:
            marks[method] = (interval, expected_goodput(interval, write_s, restart_s, mtbf_s))
    return _Explored(curve=curve, marks=marks)


def _draw(explored: _Explored) -> Picture:
    interval, goodput = explored.marks["exact"]
    wait = f"{interval:,.0f}" if interval >= 100 else f"{interval:.3g}"
    title = f"◇ At best {goodput:.1%} is progress: a write every {wait} s"
    return plot_cadence(explored.curve, marks=explored.marks, title=title)
