"""Scaling in pictures: the efficiency of n devices against a budget, and how long a training takes on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib import rc_context
from matplotlib.axes import Axes

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, INK, LINES, MUTED, STYLE, new_plot

__all__ = ["plot_efficiency", "plot_time_to_train"]


class _Predicted(Protocol):
    @property
    def num_devices(self) -> int: ...
    @property
    def efficiency(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def plot_efficiency(
    measured: Mapping[int, Measured],
    *,
    curves: Mapping[str, Mapping[int, float]] | None = None,
    predicted: _Predicted | None = None,
    budget: float | None = None,
    title: str = "",
) -> Picture:
    """Samples/s of each device against one device alone, over the number of devices; both ends of each interval.

    measured, and the curves of models by name: fractions by number of devices. predicted: drawn as a bar of its own
    beside the measured point that it foretold. budget: the least efficiency that somebody is willing to pay for.
    """
    if not measured and not curves:
        raise UsageError("plot_efficiency needs a measured efficiency or a model's curve; got neither.")
    most = max([*measured, *(n for curve in (curves or {}).values() for n in curve)])
    found = title or _finding(measured)
    figure, axes = new_plot(found, "devices", "efficiency (%)", log_x=most > 8)
    with rc_context(STYLE):
        for index, (name, curve) in enumerate((curves or {}).items()):
            percent = [100 * value for value in curve.values()]
            axes.plot(list(curve), percent, linestyle=LINES[index % 4], color=INK, linewidth=1.5, label=f"◇ {name}")
        if measured:
            _draw_measured(axes, measured)
        if predicted is not None:
            bar = [[100 * (predicted.efficiency - predicted.low)], [100 * (predicted.high - predicted.efficiency)]]
            x = predicted.num_devices * 1.06
            axes.errorbar(
                [x], [100 * predicted.efficiency], yerr=bar, fmt="D", mfc="white", mec=COLORS[5], ecolor=COLORS[5],
                capsize=4, markersize=8, label=f"◇ predicted for {predicted.num_devices}", zorder=3,
            )  # fmt: skip
        if budget is not None:
            axes.axhline(100 * budget, color=MUTED, linestyle=":", linewidth=1.4)
            axes.text(
                most, 100 * budget + 1.5, f"budget {budget:.0%}", color=MUTED, fontsize=9, va="bottom", ha="right"
            )
        _devices(axes, sorted({*measured, *(n for curve in (curves or {}).values() for n in curve)}), most)
        axes.set_ylim(0, 112)
        axes.legend(loc="lower left")
    points = {name: dict(curve) for name, curve in (curves or {}).items()}
    points |= {"measured": {n: one.value for n, one in measured.items()}} if measured else {}
    figure.description = "Efficiency by devices, " + "; ".join(
        f"{name}: " + ", ".join(f"{n}: {value:.0%}" for n, value in curve.items()) for name, curve in points.items()
    )
    return figure


def plot_time_to_train(hours: Mapping[int, float], device_hours: Mapping[int, float], *, title: str = "") -> Picture:
    """Hours until trained and device-hours paid, relative to the fewest devices; both axes logarithmic."""
    if not hours or hours.keys() != device_hours.keys() or min(hours.values()) <= 0:
        raise UsageError("plot_time_to_train needs hours above 0 and device-hours for the same numbers of devices.")
    first, last = min(hours), max(hours)
    gain, price = hours[first] / hours[last], device_hours[last] / device_hours[first]
    found = f"{last // first}× the devices: done {gain:.0f}× sooner, for {price:.1f}× the device-hours"
    figure, axes = new_plot(title or found, "devices", "relative to the first", log_x=True, log_y=True)
    with rc_context(STYLE):
        devices = sorted(hours)
        axes.plot(devices, [hours[n] / hours[first] for n in devices], "-o", color=COLORS[0], label="◇ time to train")
        paid = [device_hours[n] / device_hours[first] for n in devices]
        axes.plot(devices, paid, "--s", color=COLORS[5], label="◇ device-hours paid")
        axes.plot(devices, [first / n for n in devices], ":", color=MUTED, label="time, if nothing were lost")
        _devices(axes, devices, last)
        axes.legend(loc="lower left")
    figure.description = f"Time to train and device-hours on {first} to {last} devices"
    return figure


def _draw_measured(axes: Axes, measured: Mapping[int, Measured]) -> None:
    devices = list(measured)
    values = [100 * measured[n].value for n in devices]
    spread = [
        [100 * (measured[n].value - measured[n].low) for n in devices],
        [100 * (measured[n].high - measured[n].value) for n in devices],
    ]
    axes.errorbar(
        devices, values, yerr=spread, fmt="o", color=COLORS[0], capsize=3, markersize=7, label="● measured", zorder=3
    )


def _devices(axes: Axes, devices: Sequence[int], most: int) -> None:
    shown = [n for n in devices if n == most or (most <= 8 or n & (n - 1) == 0)]
    axes.set_xticks(shown, [f"{n:,}" for n in shown])
    axes.minorticks_off()


def _finding(measured: Mapping[int, Measured]) -> str:
    last = max(measured, default=1)
    return f"{last} devices keep {measured[last].value:.0%} of their speed" if measured else "What devices keep"
