"""The roofline: the FLOP/s that a machine can reach at each arithmetic intensity, and what it did reach.

Williams, Waterman and Patterson (2009): attainable = min(peak, bandwidth × intensity).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from matplotlib import rc_context
from matplotlib.axes import Axes

from labkit.measure import Measured
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, INK, MUTED, STYLE, axis_scale, new_plot
from labkit.units import format_quantity

__all__ = ["RooflinePoint", "plot_roofline"]


class RooflinePoint(Protocol):
    """Work of ``flops`` FLOP over ``num_bytes`` bytes that took ``time`` (seconds, with its interval)."""

    @property
    def flops(self) -> float: ...
    @property
    def num_bytes(self) -> float: ...
    @property
    def time(self) -> Measured: ...


class _Roofline(Protocol):
    @property
    def peak_flops_per_s(self) -> float: ...
    @property
    def bandwidth_bytes_per_s(self) -> float: ...
    @property
    def overhead_s(self) -> float: ...
    @property
    def knee_flops_per_byte(self) -> float: ...
    def time_s(self, flops: float, num_bytes: float) -> float: ...


def plot_roofline(
    roofline: _Roofline,
    points: Iterable[RooflinePoint] = (),
    *,
    held_out: Iterable[RooflinePoint] = (),
    title: str | None = None,
) -> Picture:
    """Attainable FLOP/s over FLOP/B, both logarithmic.

    ``points`` are those that the roofline was fitted to (filled circles), ``held_out`` those it did not see (open
    diamonds); bars are the intervals of the measured times. Where the roofline has an overhead a call, a dash marks
    what it expects of each point, which small work cannot lift to the roof. The title is the finding, else the knee.
    """
    fitted, unseen = list(points), list(held_out)
    knee = roofline.knee_flops_per_byte
    rates = [roofline.peak_flops_per_s, *(p.flops / p.time.value for p in (*fitted, *unseen))]
    scale, unit = axis_scale([roofline.peak_flops_per_s], "FLOP/s")
    shown_knee = format_quantity(knee, "FLOP/B", digits=2)
    figure, axes = new_plot(
        title or f"Below {shown_knee} memory sets the pace, above it arithmetic does",
        "arithmetic intensity (FLOP/B)",
        f"reached ({unit})",
        log_x=True,
        log_y=True,
    )
    with rc_context(STYLE):
        intensities = [p.flops / p.num_bytes for p in (*fitted, *unseen)]
        low, high = min([knee / 30, *(i / 2 for i in intensities)]), max([knee * 30, *(i * 2 for i in intensities)])
        roof = [low, knee, high]
        peak, bandwidth = roofline.peak_flops_per_s, roofline.bandwidth_bytes_per_s
        ceiling = f"roof {format_quantity(peak, 'FLOP/s')}, slope {format_quantity(bandwidth, 'B/s')}"
        axes.plot(
            roof, [min(peak, bandwidth * i) / scale for i in roof], color=INK, linewidth=2, label=ceiling, zorder=2
        )
        _annotate(axes, low, knee)
        if roofline.overhead_s > 0 and (fitted or unseen):
            expected = [p.flops / roofline.time_s(p.flops, p.num_bytes) / scale for p in (*fitted, *unseen)]
            label = f"expected with {format_quantity(roofline.overhead_s, 's', digits=2)} a call"
            axes.plot(
                intensities, expected, "_", color=MUTED, markersize=16, markeredgewidth=1.8, label=label, zorder=2.5
            )
        _draw_points(axes, fitted, scale, "o", COLORS[0], COLORS[0], f"fitted on ({len(fitted)})")
        _draw_points(axes, unseen, scale, "D", "white", COLORS[5], f"held out ({len(unseen)})")
        axes.set_xlim(low, high)
        axes.set_ylim(min([*rates, bandwidth * low]) / 2 / scale, max(rates) * 2.5 / scale)
        axes.legend(loc="lower right")
    figure.description = (
        f"Roofline: {ceiling}, knee at {shown_knee}; {len(fitted)} fitted and {len(unseen)} held-out points"
    )
    return figure


def _annotate(axes: Axes, low: float, knee: float) -> None:
    axes.axvspan(low, knee, color="#f3f5f8", zorder=0, linewidth=0)
    axes.axvline(knee, color=MUTED, linestyle=":", linewidth=1.2, zorder=1)
    top = axes.get_xaxis_transform()
    axes.text(knee / 1.15, 0.965, "memory-bound", ha="right", va="top", color=MUTED, fontsize=9, transform=top)
    axes.text(knee * 1.15, 0.965, "compute-bound", ha="left", va="top", color=MUTED, fontsize=9, transform=top)
    knee_text = f"knee {format_quantity(knee, 'FLOP/B', digits=2)}"
    # Along the line and above the legend, where a roofline has neither points nor slope.
    axes.text(knee * 1.06, 0.66, knee_text, ha="left", va="top", rotation=90, color=INK, fontsize=9, transform=top)


def _draw_points(
    axes: Axes, points: Sequence[RooflinePoint], scale: float, marker: str, face: str, edge: str, label: str
) -> None:
    if not points:
        return
    x = [p.flops / p.num_bytes for p in points]
    y = [p.flops / p.time.value / scale for p in points]
    # The slow end of the time is the low end of the rate.
    below = [v - p.flops / p.time.high / scale for v, p in zip(y, points, strict=True)]
    above = [p.flops / p.time.low / scale - v for v, p in zip(y, points, strict=True)]
    style: dict[str, Any] = {"capsize": 2.5, "elinewidth": 1.2, "markersize": 6.5, "linestyle": "none", "zorder": 3}
    bars = [[max(0.0, b) for b in below], [max(0.0, a) for a in above]]
    axes.errorbar(x, y, yerr=bars, marker=marker, mfc=face, mec=edge, ecolor=edge, label=label, **style)
