"""Checkpoints in pictures: what they stall, where kills fell, and how goodput follows the cadence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.ticker import MaxNLocator

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, MARKERS, STYLE, axis_scale, new_plot

__all__ = ["plot_cadence", "plot_kills", "plot_stalls"]


def plot_stalls(stalls: Mapping[str, Measured], *, title: str) -> Picture:
    """One bar a way of writing, in seconds, with its interval; the first on top."""
    if not stalls:
        raise UsageError("plot_stalls needs at least one measured stall; got none.")
    scale, unit = axis_scale([one.high for one in stalls.values()], "s")
    figure, axes = new_plot(title, f"time ({unit})", "", height=1.3 + 0.45 * len(stalls), margins=(2.5, 0.6, 0.6, 0.5))
    with rc_context(STYLE):
        for index, (name, one) in enumerate(stalls.items()):
            spread = [[(one.value - one.low) / scale], [(one.high - one.value) / scale]]
            axes.barh(
                name, one.value / scale, xerr=spread, color=COLORS[index % 8], hatch=HATCHES[index % 8],
                edgecolor=INK, ecolor=INK, capsize=3,
            )  # fmt: skip
            axes.annotate(
                f"{one.value / scale:.3g}", (one.high / scale, index), xytext=(6, 0), textcoords="offset points",
                va="center",
            )  # fmt: skip
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    figure.description = "; ".join(f"{name}: {one.value / scale:.3g} {unit}" for name, one in stalls.items())
    return figure


def plot_kills(where: Mapping[str, int], *, title: str) -> Picture:
    """How many kills fell into which part of saving a checkpoint."""
    if not where:
        raise UsageError("plot_kills needs at least one kill; got none.")
    names = sorted(where)
    figure, axes = new_plot(title, "kills", "fell while", height=1.3 + 0.4 * len(names), margins=(1.3, 0.5, 0.6, 0.5))
    with rc_context(STYLE):
        bars = axes.barh(names, [where[name] for name in names], color=COLORS[0], edgecolor=INK)
        axes.bar_label(bars, padding=4)
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="y")
    figure.description = "Kills: " + ", ".join(f"{where[name]} while {name}" for name in names)
    return figure


def plot_cadence(
    curve: Mapping[float, float],
    *,
    marks: Mapping[str, tuple[float, float]],
    simulated: Mapping[float, Sequence[float]] | None = None,
    title: str = "",
) -> Picture:
    """Goodput, a fraction, by seconds of computing between two writes: the closed form as a line, intervals that were
    chosen as marks, and of simulated jobs the mean with its range."""
    if not curve:
        raise UsageError("plot_cadence needs the goodput of at least one interval; got none.")
    best = max(curve, key=lambda interval: curve[interval])
    scale, unit = axis_scale([max(curve)], "s")
    figure, axes = new_plot(
        title or f"◇ Goodput is highest, {curve[best]:.1%}, at {_shown(best)} s between two writes",
        f"computing between two writes ({unit})",
        "goodput (%)",
        log_x=True,
    )
    with rc_context(STYLE):
        x = sorted(curve)
        axes.plot([v / scale for v in x], [100 * curve[v] for v in x], color=INK, linestyle="-", label="◇ closed form")
        for interval, values in (simulated or {}).items():
            mean = sum(values) / len(values)
            bar = [[100 * (mean - min(values))], [100 * (max(values) - mean)]]
            axes.errorbar(
                [interval / scale], [100 * mean], yerr=bar, fmt="o", color=COLORS[0], mfc="white",
                markersize=5, capsize=3, zorder=5,
                label="◇ simulated jobs" if interval == min(simulated or {}) else None,
            )  # fmt: skip
        for index, (name, (interval, goodput)) in enumerate(marks.items()):
            axes.plot(
                [interval / scale], [100 * goodput], MARKERS[(index + 1) % 8], color=COLORS[(index + 5) % 8],
                markersize=9, markeredgecolor=INK, linestyle="none", label=f"{name}: {_shown(interval / scale)} {unit}",
                zorder=4,
            )  # fmt: skip
        axes.legend(loc="lower center")
    figure.description = "Goodput by interval; " + ", ".join(
        f"{name} at {interval:.4g} s: {goodput:.2%}" for name, (interval, goodput) in marks.items()
    )
    return figure


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
