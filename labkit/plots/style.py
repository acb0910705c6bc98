"""How every plot looks: one palette with its markers, hatches and lines, so that no plot needs colour to be read."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from cycler import cycler
from matplotlib import rc_context, ticker
from matplotlib.axes import Axes

from labkit.plots.picture import Picture
from labkit.units import format_quantity

__all__ = [
    "COLORS",
    "GRID",
    "HATCHES",
    "INK",
    "LINES",
    "MARKERS",
    "MUTED",
    "STYLE",
    "axis_scale",
    "hatch_on",
    "new_plot",
    "text_on",
]

# Okabe and Ito (2008): eight hues that the usual colour vision deficiencies keep apart; black is kept for ink.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "ooo", "--")
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
INK, MUTED, GRID = "#222222", "#5f6368", "#dddddd"

_TITLE_CHARACTER = 0.098  # inches, the mean of bold DejaVu Sans at 12 points

STYLE: Any = {  # what rc_context takes; its stub wants a literal type of every key
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLORS, linestyle=LINES + LINES),
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titley": 1.0,  # a fixed place: matplotlib's search for one costs a third of a redraw
    "figure.facecolor": "white",
    "font.size": 10.0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.color": "#ffffff",
    "hatch.linewidth": 0.9,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name or a price is a dollar
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


def new_plot(
    title: str,
    x: str,
    y: str,
    *,
    width: float = 7.0,
    height: float = 4.0,
    log_x: bool = False,
    log_y: bool = False,
    margins: tuple[float, float, float, float] = (0.85, 0.25, 0.6, 0.5),
) -> tuple[Picture, Axes]:
    """An empty plot of ``width`` × ``height`` inches. ``title`` is the finding, ``x`` and ``y`` name quantity and unit.

    ``margins`` are left, right, bottom and top in inches: fixed ones draw in half the time of a layout search.
    """
    left, right, bottom, top = margins
    lines = textwrap.wrap(title, int((width - 0.25) / _TITLE_CHARACTER))
    top += 0.21 * (len(lines) - 1)
    with rc_context(STYLE):
        figure = Picture(figsize=(width, height), dpi=100)
        axes = figure.add_subplot()
        figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
        # From the figure's left edge, not the axes': a finding is a sentence and needs the room.
        axes.set_title("\n".join(lines), x=(0.12 - left) / (width - left - right))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        for axis, is_log in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
            if is_log:
                axis.set_major_formatter(ticker.FuncFormatter(_plain_tick))
                axis.set_minor_locator(ticker.NullLocator())
    return figure, axes


def axis_scale(values: Sequence[float], unit: str) -> tuple[float, str]:
    """``([2e9, 8e10], "FLOP/s")`` -> ``(1e9, "GFLOP/s")``: divide by the first, label with the second."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    if not largest:
        return 1.0, unit
    number, _, shown = format_quantity(largest, unit, digits=12).partition(" ")
    return 10.0 ** round(math.log10(largest / abs(float(number.replace(",", ""))))), shown


def text_on(color: str) -> str:
    """Black or white, whichever reads better on ``color`` (``"#rrggbb"``); WCAG's relative luminance."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if (1.05 / (luminance + 0.05)) > ((luminance + 0.05) / 0.05) else "#000000"


def hatch_on(color: str) -> tuple[float, float, float, float]:
    """The colour of hatch lines on ``color``: seen, but quieter than text."""
    return (0.0, 0.0, 0.0, 0.5) if text_on(color) == "#000000" else (1.0, 1.0, 1.0, 0.85)


def _plain_tick(value: float, _position: int | None = None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:.10f}".rstrip("0")
