"""The measured ceilings of a machine: arithmetic by dtype, and how fast bytes move by path, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from matplotlib import rc_context, ticker
from matplotlib.axes import Axes

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, MUTED, STYLE, axis_scale, hatch_on
from labkit.units import format_quantity

__all__ = ["plot_ceilings"]


class _Ceilings(Protocol):
    @property
    def matmul(self) -> Mapping[str, Measured]: ...
    @property
    def bandwidth(self) -> Measured | None: ...
    @property
    def disk_write(self) -> Measured | None: ...
    @property
    def disk_read(self) -> Measured | None: ...
    @property
    def all_reduce(self) -> Measured | None: ...
    @property
    def missing(self) -> Mapping[str, str]: ...


def plot_ceilings(ceilings: _Ceilings, *, title: str | None = None) -> Picture:
    """Left: matmul FLOP/s by dtype (bars from zero). Right: bytes per second by path (dots on a logarithmic axis).

    What the machine could not measure is named below. Raises UsageError where nothing was measured.
    """
    compute = sorted(ceilings.matmul.items(), key=lambda item: -item[1].value)
    paths = sorted(_paths(ceilings).items(), key=lambda item: -item[1].value)
    if not compute and not paths:
        raise UsageError("plot_ceilings got ceilings without a single measurement; run calibrate() first.")
    rows = max(len(compute), len(paths))
    with rc_context(STYLE):
        foot = 0.2 if ceilings.missing else 0.0
        height = 1.34 + foot + 0.46 * rows
        figure = Picture(figsize=(7.4, height), dpi=100)
        frames = figure.subplots(1, 2, width_ratios=[1.0, 1.0])
        figure.subplots_adjust(
            left=0.105, right=0.965, bottom=(0.62 + foot) / height, top=1 - 0.74 / height, wspace=0.42
        )
        _draw_compute(frames[0], compute, rows)
        _draw_paths(frames[1], paths, rows)
        figure.suptitle(
            title or _finding(compute, paths), x=0.02, y=1 - 0.12 / height, ha="left", va="top", weight="bold"
        )
        if ceilings.missing:
            note = f"not measured here: {', '.join(ceilings.missing)}"
            figure.text(0.98, 0.02, note, ha="right", va="bottom", fontsize=8.5, color=MUTED)
    said = [f"{name} {format_quantity(m.value, m.unit)}" for name, m in (*compute, *paths)]
    missing = "".join(f"; no {name}: {reason}" for name, reason in ceilings.missing.items())
    figure.description = "Ceilings: " + ", ".join(said) + missing
    return figure


def _paths(ceilings: _Ceilings) -> dict[str, Measured]:
    measured = {
        "memory": ceilings.bandwidth,
        "disk read": ceilings.disk_read,
        "disk write": ceilings.disk_write,
        "all-reduce": ceilings.all_reduce,
    }
    return {name: figure for name, figure in measured.items() if figure is not None}


def _draw_compute(axes: Axes, compute: list[tuple[str, Measured]], rows: int) -> None:
    scale, unit = axis_scale([m.value for _, m in compute], "FLOP/s")
    axes.set_title("arithmetic, by dtype", fontsize=10, weight="normal", color=MUTED)
    axes.set_xlabel(f"matmul ({unit})")
    for row, (_, measured) in enumerate(compute):
        color = COLORS[row % 8]
        paint: dict[str, Any] = {"color": color, "hatchcolor": hatch_on(color)}
        value, bars = measured.value / scale, _bars(measured, scale)
        axes.barh(row, value, height=0.62, hatch=HATCHES[row % 8], linewidth=0, **paint)
        axes.errorbar(value, row, xerr=bars, fmt="none", ecolor=INK, capsize=3, elinewidth=1.3)
        _label(axes, measured, row, scale)
    _rows(axes, [name for name, _ in compute], rows, "dtype")
    axes.set_xlim(0, max((m.high for _, m in compute), default=1) / scale * 1.45)


def _draw_paths(axes: Axes, paths: list[tuple[str, Measured]], rows: int) -> None:
    scale, unit = 1e9, "GB/s"
    axes.set_title("bytes, by path", fontsize=10, weight="normal", color=MUTED)
    axes.set_xlabel(f"bandwidth ({unit}, logarithmic)")
    axes.set_xscale("log")
    for row, (_, measured) in enumerate(paths):
        axes.errorbar(
            measured.value / scale,
            row,
            xerr=_bars(measured, scale),
            fmt="o",
            color=COLORS[0],
            ecolor=INK,
            capsize=3,
            markersize=8,
        )
        _label(axes, measured, row, scale)
    _rows(axes, [name for name, _ in paths], rows, "path")
    values = [m.value / scale for _, m in paths] or [1.0]
    axes.set_xlim(min(values) / 2, max(values) * 8)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _p: f"{v:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def _bars(measured: Measured, scale: float) -> list[list[float]]:
    below, above = measured.value - measured.low, measured.high - measured.value
    return [[max(0.0, below) / scale], [max(0.0, above) / scale]]


def _label(axes: Axes, measured: Measured, row: int, scale: float) -> None:
    """The value, just beyond the upper end of the interval."""
    at, text = (measured.high / scale, row), format_quantity(measured.value, measured.unit)
    axes.annotate(text, at, xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)


def _rows(axes: Axes, names: list[str], rows: int, label: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel(label)
    axes.yaxis.label.set_visible(False)


def _finding(compute: list[tuple[str, Measured]], paths: list[tuple[str, Measured]]) -> str:
    parts = []
    if compute:
        parts.append(f"{format_quantity(compute[0][1].value, 'FLOP/s')} in {compute[0][0]}")
    rates = dict(paths)
    if "memory" in rates:
        parts.append(f"{format_quantity(rates['memory'].value, 'B/s')} from memory")
    return "This machine reaches " + " and ".join(
        parts or [f"{format_quantity(paths[0][1].value, 'B/s')} by {paths[0][0]}"]
    )
