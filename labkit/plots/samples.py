"""Every reading as a dot, with its median and interval: spread first, then the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib import rc_context

from labkit.errors import UsageError
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, INK, MARKERS, MUTED, STYLE, axis_scale, new_plot
from labkit.stats import median_interval
from labkit.units import format_quantity

__all__ = ["plot_samples"]


def plot_samples(
    samples: Mapping[str, Sequence[float]], *, unit: str = "s", quantity: str = "time", title: str | None = None
) -> Picture:
    """One row a name. Dots run from top to bottom in the order taken, so that a drift shows as a slant.

    The line is the median, the shaded box its interval. Raises UsageError where a row has no readings.
    """
    if not samples or not all(len(values) for values in samples.values()):
        empty = [name for name, values in samples.items() if not len(values)]
        raise UsageError(f"plot_samples needs at least one reading a row; got none for {empty or 'any row'}.")
    scale, unit_shown = axis_scale([median(values) for values in samples.values()], unit)
    left = 0.35 + 0.085 * max(len(name) for name in samples)
    height = 1.15 + 0.72 * len(samples)
    figure, axes = new_plot(
        title or _finding(samples, unit),
        f"{quantity} ({unit_shown})" if unit_shown else quantity,
        "",
        height=height,
        margins=(left, 1.25, 0.6, 0.5),
    )
    with rc_context(STYLE):
        for row, values in enumerate(samples.values()):
            color, count = COLORS[row % len(COLORS)], len(values)
            order = [row - 0.28 + 0.56 * (i + 0.5) / count for i in range(count)]
            shown = [v / scale for v in values]
            axes.scatter(
                shown, order, s=22, marker=MARKERS[row % len(MARKERS)], color=color, alpha=0.75, linewidth=0, zorder=3
            )
            middle = median(values)
            if count > 1:
                interval = median_interval(values)
                low, high = interval.low / scale, interval.high / scale
                axes.fill_betweenx([row - 0.36, row + 0.36], low, high, color=MUTED, alpha=0.22, linewidth=0, zorder=1)
                axes.vlines(middle / scale, row - 0.36, row + 0.36, color=INK, linewidth=2, zorder=4)
            label = f"{format_quantity(middle, unit)}\nn = {count}"
            axes.text(1.01, row, label, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
        axes.set_yticks(range(len(samples)), list(samples))
        axes.set_ylim(len(samples) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_ylabel("row")
        axes.yaxis.label.set_visible(False)
    medians = ", ".join(f"{name} {format_quantity(median(values), unit)}" for name, values in samples.items())
    figure.description = (
        f"Dots are readings from first (top) to last, the line is the median, the box its interval. Medians: {medians}"
    )
    return figure


def _finding(samples: Mapping[str, Sequence[float]], unit: str) -> str:
    medians = {name: median(values) for name, values in samples.items()}
    low, high = min(medians, key=lambda k: medians[k]), max(medians, key=lambda k: medians[k])
    if len(medians) == 1 or medians[low] <= 0:
        return f"{low}: {format_quantity(medians[low], unit)} in the middle"
    return f"{high}: {medians[high] / medians[low]:.3g} × the median of {low}"
