"""Time of a collective against what a rank sends: measured, the fit over it, and sizes that the fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, LINES, MARKERS, STYLE, axis_scale, new_plot
from labkit.units import format_quantity

__all__ = ["plot_fabric"]


class _Point(Protocol):
    @property
    def bytes_sent(self) -> float: ...
    @property
    def time(self) -> Measured: ...


class _Fit(Protocol):
    @property
    def op(self) -> str: ...
    @property
    def ranks(self) -> int: ...
    @property
    def alpha_s(self) -> float: ...
    @property
    def bandwidth_bytes_per_s(self) -> float: ...
    @property
    def error(self) -> float: ...
    @property
    def fitted(self) -> Sequence[_Point]: ...
    @property
    def held_out(self) -> Sequence[_Point]: ...
    def time_s(self, bytes_sent: float) -> float: ...


def plot_fabric(fits: Sequence[_Fit], *, title: str | None = None) -> Picture:
    """Time over bytes sent by a rank, both logarithmic: a line and a marker for each fit, filled where it was fitted,
    open where it was scored. The title is the finding, else how far the worst fit is off on what it has not seen."""
    if not fits:
        raise UsageError("plot_fabric got no fit; fit_fabric(measure_fabric(…)) makes them.")
    times = [p.time.value for fit in fits for p in (*fit.fitted, *fit.held_out)]
    sizes = [p.bytes_sent for fit in fits for p in (*fit.fitted, *fit.held_out)]
    (second, seconds), (byte, bytes_) = axis_scale(times, "s"), axis_scale(sizes, "B")
    below = 0.75 + 0.2 * (len(fits) + 1)  # inches: under the axes, where a legend hides nothing
    figure, axes = new_plot(
        title or _finding(fits),
        f"sent by each rank ({bytes_})",
        f"time ({seconds})",
        height=3.5 + below,
        log_x=True,
        log_y=True,
        margins=(0.85, 0.25, below, 0.5),
    )
    with rc_context(STYLE):
        for index, fit in enumerate(fits):
            style: dict[str, Any] = {"color": COLORS[index % 8], "marker": MARKERS[index % 8]}
            _draw(axes, fit, index, style, second, byte)
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            if high < 100 * low:  # or a single power of ten would be all that is named
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.plot([], [], "o", mfc="white", mec="#5f6368", linestyle="none", label="open: the fit has not seen it")
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.5 / axes.get_position().height / figure.get_figheight()))
    figure.description = "Time over bytes sent: " + "; ".join(
        f"{_name(fit)}, {len(fit.fitted)} sizes fitted, {len(fit.held_out)} held out, off by {fit.error:.0%}"
        for fit in fits
    )
    return figure


def _draw(axes: Axes, fit: _Fit, index: int, style: dict[str, Any], second: float, byte: float) -> None:
    sent = [p.bytes_sent for p in (*fit.fitted, *fit.held_out)]
    x = np.geomspace(min(sent) / 1.5, max(sent) * 1.5, 100)
    y = [fit.time_s(size) / second for size in x]
    axes.plot(x / byte, y, color=style["color"], linestyle=LINES[index % 4], linewidth=1.6, zorder=2)
    for points, face in ((fit.fitted, style["color"]), (fit.held_out, "white")):
        times = [p.time for p in points]
        bars = [[(t.value - t.low) / second for t in times], [(t.high - t.value) / second for t in times]]
        axes.errorbar(
            [p.bytes_sent / byte for p in points],
            [t.value / second for t in times],
            yerr=bars,
            mfc=face,
            mec=style["color"],
            ecolor=style["color"],
            linestyle="none",
            capsize=2.5,
            markersize=7,
            zorder=3,
            **style,
        )
    axes.plot(
        [], [], color=style["color"], linestyle=LINES[index % 4], marker=style["marker"], label=_name(fit)
    )  # one entry for line and marks


def _name(fit: _Fit) -> str:
    alpha = format_quantity(fit.alpha_s, "s", digits=2)
    rate = format_quantity(fit.bandwidth_bytes_per_s, "B/s", digits=2)
    return f"{fit.op.replace('_', '-')}, {fit.ranks} ranks: {alpha} + bytes ÷ {rate}"


def _finding(fits: Sequence[_Fit]) -> str:
    worst = max(fits, key=lambda fit: fit.error)
    whose = "" if len(fits) == 1 else f" at worst ({worst.op.replace('_', '-')})"
    return f"A latency and a bandwidth tell the time of sizes not seen within {worst.error:.0%}{whose}"
