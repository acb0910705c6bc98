"""Monitors in pictures: sums and their threshold, delays by fault, the slowest of n, delay against false alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, INK, LINES, MARKERS, MUTED, STYLE, new_plot

__all__ = ["plot_delays", "plot_slowest", "plot_sums", "plot_trade_off"]


class _Score(Protocol):
    @property
    def num_faults(self) -> int: ...
    @property
    def num_found(self) -> int: ...
    @property
    def delays_steps(self) -> tuple[int, ...]: ...


def plot_sums(
    sums: Mapping[str, ArrayLike],
    *,
    threshold: float,
    fault_step: int | None = None,
    alert_step: int | None = None,
    unit: str = "logarithms of time ratios",
    title: str = "",
) -> Picture:
    """Sums of a monitor over steps, by what they watch; dashed: the threshold; a dotted line where the fault began."""
    if not sums:
        raise UsageError("plot_sums needs the sums of at least one run; run_drill(…).sums has them.")
    found = title or (
        f"Alert in step {alert_step}, {alert_step - fault_step} after the fault"
        if alert_step is not None and fault_step is not None
        else "No sum passes its threshold"
    )
    figure, axes = new_plot(found, "step", f"sum of {unit}", margins=(0.85, 0.25, 1.0, 0.5))
    with rc_context(STYLE):
        for index, (name, values) in enumerate(sums.items()):
            heights = np.asarray(values, dtype=np.float64)
            axes.plot(
                range(len(heights)), heights, linestyle=LINES[index % 4], marker=MARKERS[index % 8],
                markevery=max(1, len(heights) // 12), markersize=5, label=name,
            )  # fmt: skip
        axes.axhline(threshold, color=INK, linestyle="--", linewidth=1.2)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        axes.text(0, threshold, "threshold, fixed on other steps", va="center", color=INK, fontsize=9, bbox=box)
        if fault_step is not None:
            axes.axvline(fault_step, color=MUTED, linestyle=":", linewidth=1.4)
            axes.annotate(
                "fault", (fault_step, 0.97), xycoords=("data", "axes fraction"), color=MUTED, fontsize=9, ha="right",
                va="top", xytext=(-4, 0), textcoords="offset points",
            )  # fmt: skip
        axes.set_ylim(0)
        figure.legend(loc="lower left", ncols=3, bbox_to_anchor=(0.02, 0))
    peaks = {name: float(np.max(np.asarray(values), initial=0.0)) for name, values in sums.items()}
    figure.description = f"Threshold {threshold:.3g}; largest sums: " + ", ".join(
        f"{name} {peak:.3g}" for name, peak in peaks.items()
    )
    return figure


def plot_delays(scores: Mapping[str, _Score], *, title: str = "") -> Picture:
    """A row a fault: each run's delay as a small circle, the median as a line, and how many were found."""
    rows = {name: score for name, score in scores.items() if score.num_faults}
    if not rows:
        raise UsageError("plot_delays needs scores of runs with faults; try_monitors gives them.")
    found = sum(score.num_found for score in rows.values())
    latest = max(rows, key=lambda name: float(np.median(rows[name].delays_steps or (0,))))
    told = title or f"{found} of {sum(score.num_faults for score in rows.values())} faults found; latest: {latest}"
    left = 0.35 + 0.085 * max(map(len, rows))
    figure, axes = new_plot(told, "steps from the fault to its alert", "", height=1.3 + 0.42 * len(rows),
                            margins=(left, 1.1, 0.6, 0.5))  # fmt: skip
    most = max((max(score.delays_steps, default=0) for score in rows.values()), default=0)
    with rc_context(STYLE):
        for row, score in enumerate(rows.values()):
            delays = np.asarray(score.delays_steps, dtype=np.float64)
            _strip(axes, row, delays)
            if len(delays):
                middle = float(np.median(delays))
                axes.plot([middle, middle], [row - 0.36, row + 0.36], color=INK, linewidth=2.2, linestyle="-")
            share = f"{score.num_found} of {score.num_faults}"
            axes.text(1.02, row, share, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlim(-0.6, most + 1)
        axes.tick_params(axis="y", length=0)
    figure.description = "; ".join(
        f"{name}: {s.num_found} of {s.num_faults}"
        + (f", median delay {np.median(s.delays_steps):.0f} steps" if s.delays_steps else "")
        for name, s in rows.items()
    )
    return figure


def plot_slowest(
    measured: Mapping[int, Measured],
    curves: Mapping[str, Mapping[int, float]],
    *,
    title: str,
) -> Picture:
    """The step of n ranks ÷ the mean step of one, over n: points measured, lines by a model."""
    if not curves:
        raise UsageError("plot_slowest needs at least one model's curve; got none.")
    figure, axes = new_plot(title, "ranks", "step of n ranks ÷ one rank's mean (×)", log_x=True)
    with rc_context(STYLE):
        for index, (name, curve) in enumerate(curves.items()):
            axes.plot(list(curve), list(curve.values()), linestyle=LINES[index % 4], color=INK, label=f"◇ {name}")
        for n, figure_at in measured.items():
            ends = [[figure_at.value - figure_at.low], [figure_at.high - figure_at.value]]
            axes.errorbar([n], [figure_at.value], yerr=ends, fmt="o", color=COLORS[0], capsize=3, zorder=3,
                          label="● measured" if n == min(measured) else None)  # fmt: skip
        axes.axhline(1.0, color=MUTED, linewidth=1.0, linestyle=":")
        axes.legend(loc="upper left")
    figure.description = "; ".join(
        f"{name}: " + ", ".join(f"{n}: {value:.2f}×" for n, value in list(curve.items())[:: max(1, len(curve) // 5)])
        for name, curve in curves.items()
    )
    return figure


def plot_trade_off(
    delays: Mapping[str, Sequence[float]],
    between: Mapping[str, Sequence[float]],
    *,
    title: str,
    chosen: tuple[float, float] | None = None,
) -> Picture:
    """Steps to a detection over healthy steps between two false alarms, by name; marked: the threshold that is used."""
    if not delays or delays.keys() != between.keys():
        raise UsageError("plot_trade_off needs delays and the steps between false alarms of the same names.")
    figure, axes = new_plot(title, "healthy steps between two false alarms", "delay of a detection (steps)", log_x=True,
                            margins=(0.85, 0.5, 0.6, 0.5))  # fmt: skip
    with rc_context(STYLE):
        for index, (name, values) in enumerate(delays.items()):
            axes.plot(
                between[name], values, linestyle=LINES[index % 4], marker=MARKERS[index % 8], markersize=5,
                color=COLORS[index % 8], label=name,
            )  # fmt: skip
        if chosen is not None:
            axes.plot(*chosen, marker="X", markersize=11, color=INK, linestyle="none", label="the threshold used")
        axes.set_ylim(0)
        axes.legend(loc="upper left")
    figure.description = "; ".join(
        f"{name}: {values[0]:.1f} steps at {between[name][0]:.0f}, {values[-1]:.1f} at {between[name][-1]:.0f}"
        for name, values in delays.items()
    )
    return figure


def _strip(axes: Axes, row: int, delays: NDArray[np.float64]) -> None:
    """Circles side by side where several runs had the same delay."""
    for value in np.unique(delays):
        count = int((delays == value).sum())
        heights = row + np.linspace(-0.28, 0.28, count) if count > 1 else [row]
        axes.plot([value] * count, heights, "o", color=COLORS[0], markersize=3.5, alpha=0.6)
