"""A step over several devices against the bandwidth between them: measured, modelled, and one device for comparison."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from matplotlib import rc_context

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, INK, MUTED, STYLE, axis_scale, new_plot

__all__ = ["plot_step_over_bandwidth"]


def plot_step_over_bandwidth(
    steps: Mapping[float, Measured],
    *,
    model: Callable[[float], float] | None = None,
    one_device: Measured | None = None,
    held_out: Collection[float] = (),
    links: Mapping[str, float] | None = None,
    title: str = "",
) -> Picture:
    """Seconds of a step by bandwidth in B/s. ``model``: bandwidth -> seconds, drawn as a line, fitted on what is not
    ``held_out`` (hollow markers); ``links``: named bandwidths, marked from top to bottom. The title is the finding."""
    if not steps or any(bandwidth <= 0 for bandwidth in steps):
        raise UsageError("plot_step_over_bandwidth needs at least one step time, each at a bandwidth above 0.")
    bandwidths = sorted(steps)
    scale, unit = axis_scale(bandwidths, "B/s")
    times = [steps[bandwidth] for bandwidth in bandwidths]
    if not title:
        ratio = times[0].value / times[-1].value
        title = f"A step takes {ratio:.1f} times as long over the slowest link as over the fastest"
    figure, axes = new_plot(title, f"bandwidth between the devices ({unit})", "time of a step (s)", log_x=True)
    with rc_context(STYLE):
        for bandwidth, time in zip(bandwidths, times, strict=True):
            hollow = bandwidth in held_out
            label = "● measured, not seen by the fit" if hollow else "● measured"
            axes.errorbar(
                bandwidth / scale,
                time.value,
                yerr=[[time.value - time.low], [time.high - time.value]],
                fmt="D" if hollow else "o",
                mfc="white" if hollow else INK,
                color=INK,
                capsize=3,
                label=label,
            )
        if model is not None:
            along = np.geomspace(bandwidths[0] / 1.3, bandwidths[-1] * 1.3, 100)
            axes.plot(
                along / scale, [model(b) for b in along], "-", color=COLORS[0], label="◇ computing + bytes ÷ bandwidth"
            )
        if one_device is not None:
            axes.axhline(one_device.value, ls="--", color=COLORS[5], label="● one device alone")
        axes.set_xticks([bandwidth / scale for bandwidth in bandwidths], [f"{b / scale:.3g}" for b in bandwidths])
        axes.set_ylim(0, max(time.high for time in times) * 1.12)
        for name, bandwidth in (links or {}).items():
            axes.axvline(bandwidth / scale, ls=":", color=MUTED, lw=1)
            axes.annotate(
                name, (bandwidth / scale, 0.03), xycoords=("data", "axes fraction"), rotation=90,
                ha="right", va="bottom", fontsize=8.5, color=MUTED,
            )  # fmt: skip
        handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        axes.legend(handles.values(), handles.keys(), loc="upper right")
    return figure
