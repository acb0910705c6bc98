"""A device's memory at its worst moment, class by class, beside the memory that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from matplotlib import rc_context
from matplotlib.patches import Patch

from labkit.errors import UsageError
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, STYLE, axis_scale, hatch_on, new_plot

__all__ = ["plot_memory"]


class _Use(Protocol):
    @property
    def by_class(self) -> Mapping[str, float]: ...
    @property
    def total_bytes(self) -> float: ...


def plot_memory(uses: Mapping[str, _Use], *, limit_bytes: float | None = None, title: str = "") -> Picture:
    """One stacked bar a row, in bytes of one device; a hatch a class. limit_bytes: what the device has, a line.

    The title is the finding, else what the last row takes of the first.
    """
    if not uses:
        raise UsageError("plot_memory needs at least one row; got none.")
    totals = [use.total_bytes for use in uses.values()]
    first, last = next(iter(uses)), list(uses)[-1]
    found = f"{last} takes {totals[-1] / totals[0]:.0%} of what {first} takes"
    widest = max([*totals, limit_bytes or 0.0])
    scale, unit = axis_scale([widest], "B")
    left = 0.35 + 0.078 * max(len(name) for name in uses)
    height = 1.65 + 0.36 * len(uses)
    figure, axes = new_plot(
        title or found, f"peak memory of one device ({unit})", "", height=height, margins=(left, 0.3, 1.0, 0.5)
    )
    classes = list(next(iter(uses.values())).by_class)
    with rc_context(STYLE):
        for row, use in enumerate(uses.values()):
            start = 0.0
            for index, name in enumerate(classes):
                size = use.by_class[name] / scale
                axes.barh(row, size, left=start, height=0.66, linewidth=0.6, edgecolor=INK, **_paint(index))
                start += size
            axes.text(start + 0.012 * widest / scale, row, f"{start:.3g}", va="center", fontsize=9)
        if limit_bytes is not None:
            axes.axvline(limit_bytes / scale, color=INK, linewidth=1.4, linestyle="--")
            axes.text(limit_bytes / scale, -0.52, "what it has ", color=INK, ha="right", va="bottom", fontsize=8.5)
        axes.set_yticks(range(len(uses)), list(uses))
        axes.set_ylim(len(uses) - 0.45, -0.85)
        axes.set_xlim(0, 1.12 * widest / scale)
        axes.grid(visible=False, axis="y")
        handles = [Patch(label=name, linewidth=0.6, edgecolor=INK, **_paint(i)) for i, name in enumerate(classes)]
        figure.legend(
            handles=handles, loc="lower left", ncols=len(classes), bbox_to_anchor=(0.02, 0), columnspacing=1.2
        )
    figure.description = "; ".join(f"{name}: {use.total_bytes / scale:.3g} {unit}" for name, use in uses.items())
    return figure


def _paint(index: int) -> dict[str, Any]:
    color = COLORS[index % len(COLORS)]
    return {"facecolor": color, "hatch": HATCHES[index % len(HATCHES)], "hatchcolor": hatch_on(color)}
