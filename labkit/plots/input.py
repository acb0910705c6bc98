"""What feeds a device: the parts of a step by format, waits foretold and measured, and the rates of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.patches import Patch

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, MUTED, STYLE, axis_scale, hatch_on, new_plot, text_on

__all__ = ["plot_input_parts", "plot_input_rates", "plot_waits"]

_ROW = 0.46  # inches a row
# As the timeline of a simulated feed paints them: by the order in which they come there.
_PAINTS = {"ingest": (COLORS[0], HATCHES[0]), "prep": (COLORS[2], HATCHES[2]), "fetch": (COLORS[1], HATCHES[1])}
_TOLD = {"ingest": "ingest (the device trains)", "prep": "prep (a core decodes)", "fetch": "fetch (the storage sends)"}


def plot_input_parts(parts: Mapping[str, Mapping[str, Measured]], *, title: str = "") -> Picture:
    """One bar a format: the medians of "ingest", "prep" and "fetch", seconds of a batch, one behind the other.

    The title is the finding, else the format whose device waits longest.
    """
    _need(parts, "plot_input_parts", "format")
    medians = {name: {part: max(0.0, one[part].value) for part in _PAINTS} for name, one in parts.items()}
    total = {name: sum(one.values()) for name, one in medians.items()}
    scale, unit = axis_scale(list(total.values()), "s")
    worst = max(total, key=lambda name: total[name])
    waits = 1 - medians[worst]["ingest"] / total[worst]
    figure, axes = new_plot(
        title or f"{worst}: {waits:.0%} of a step is waiting for data",
        f"time of a batch, one after the other ({unit})",
        "",
        height=1.6 + _ROW * len(parts),
        margins=(0.35 + 0.08 * max(map(len, parts)), 0.5, 0.95, 0.5),
    )
    widest = max(total.values())
    with rc_context(STYLE):
        for row, (name, one) in enumerate(medians.items()):
            start = 0.0
            for part, (color, hatch) in _PAINTS.items():
                width = one[part] / scale
                paint: dict[str, Any] = {"facecolor": color, "hatch": hatch, "hatchcolor": hatch_on(color)}
                axes.barh(row, width, left=start, height=0.68, linewidth=0.6, edgecolor=INK, **paint)
                if one[part] > 0.07 * widest:
                    box = {"facecolor": color, "edgecolor": "none", "pad": 1.0}  # the hatch must not cross the digits
                    middle = start + width / 2
                    label: dict[str, Any] = {"fontsize": 9, "color": text_on(color), "bbox": box}
                    axes.text(middle, row, f"{width:.3g}", ha="center", va="center", **label)
                start += width
            share = f"{start:.3g}, {medians[name]['ingest'] / total[name]:.0%} of it training"
            axes.text(start + 0.012 * widest / scale, row, share, va="center", fontsize=9)
        axes.set_yticks(range(len(parts)), list(parts))
        axes.set_ylim(len(parts) - 0.45, -0.55)
        axes.set_xlim(0, 1.42 * widest / scale)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        handles = [
            Patch(label=_TOLD[part], lw=0.6, ec=INK, fc=color, hatch=hatch, hatchcolor=hatch_on(color))
            for part, (color, hatch) in _PAINTS.items()
        ]
        figure.legend(handles=handles, loc="lower left", ncols=3, bbox_to_anchor=(0.02, 0), columnspacing=1.2)
    told = [f"{n}: " + ", ".join(f"{p} {s / scale:.3g}" for p, s in one.items()) for n, one in medians.items()]
    figure.description = f"in {unit}, {'; '.join(told)}"
    return figure


def plot_waits(foretold_s: Mapping[str, float], measured: Mapping[str, Measured], *, title: str = "") -> Picture:
    """A row a case: the wait of a step that the model foretold (open diamond) and the one that came (filled circle).

    The title is the finding, else the largest error.
    """
    _need(measured, "plot_waits", "case")
    if missing := [name for name in measured if name not in foretold_s]:
        raise UsageError(f"plot_waits needs a foretold wait for each measured one; {', '.join(missing)} has none.")
    scale, unit = axis_scale([one.high for one in measured.values()], "s")
    off = {name: abs(foretold_s[name] / one.value - 1) for name, one in measured.items() if one.value}
    figure, axes = new_plot(
        title or f"The waits come as foretold, to {max(off.values(), default=0.0):.0%}",
        f"wait of a step ({unit})",
        "",
        height=1.6 + 0.36 * len(measured),
        margins=(0.35 + 0.08 * max(map(len, measured)), 0.4, 0.95, 0.5),
    )
    marks: dict[str, Any] = {"linestyle": "none", "markersize": 8, "zorder": 3}
    rows = list(range(len(measured)))
    with rc_context(STYLE):
        values = [one.value / scale for one in measured.values()]
        ends = [[(one.value - one.low) / scale for one in measured.values()]]
        ends.append([(one.high - one.value) / scale for one in measured.values()])
        told = [foretold_s[name] / scale for name in measured]
        at = [row - 0.13 for row in rows]
        axes.plot(told, at, marker="D", mfc="white", mec=COLORS[5], label="◇ foretold", **marks)
        marks |= {"capsize": 3, "elinewidth": 1.3, "color": COLORS[0]}
        axes.errorbar(values, [row + 0.13 for row in rows], xerr=ends, marker="o", label="● measured", **marks)
        axes.set_yticks(rows, list(measured))
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlim(0, None)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="lower left", ncols=2, bbox_to_anchor=(0.02, 0))
    figure.description = "; ".join(
        f"{name}: foretold {foretold_s[name] / scale:.3g}, measured {one.value / scale:.3g} {unit}"
        for name, one in measured.items()
    )
    return figure


def plot_input_rates(rates: Mapping[str, float], training: float, *, unit: str, title: str) -> Picture:
    """A bar a stage: what it could do alone; a line across: what the training gets, the least of them at best."""
    _need(rates, "plot_input_rates", "stage")
    margins = (0.35 + 0.08 * max(map(len, rates)), 0.4, 0.6, 0.5)
    figure, axes = new_plot(title, unit, "", height=1.3 + _ROW * len(rates), log_x=True, margins=margins)
    with rc_context(STYLE):
        for row, rate in enumerate(rates.values()):
            color, hatch = list(_PAINTS.values())[row % len(_PAINTS)]
            axes.barh(row, rate, height=0.62, color=color, hatch=hatch, hatchcolor=hatch_on(color), edgecolor=INK)
            axes.text(rate * 1.06, row, f"{rate:,.3g}", va="center", fontsize=9)
        axes.axvline(training, color=INK, linewidth=1.6, linestyle="--")
        axes.text(training * 1.04, -0.62, f"training: {training:,.3g}", fontsize=9, color=MUTED)
        axes.set_yticks(range(len(rates)), list(rates))
        axes.set_ylim(len(rates) - 0.5, -0.85)
        axes.set_xlim(min(*rates.values(), training) / 3, max(rates.values()) * 3)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    told = ", ".join(f"{stage} {rate:,.3g}" for stage, rate in rates.items())
    figure.description = f"{told}; training {training:,.3g} {unit}"
    return figure


def _need(rows: Mapping[str, Any], what: str, kind: str) -> None:
    if not rows:
        raise UsageError(f"{what} needs at least one {kind}; got none.")
