"""Where a training step goes, what of the device it uses, and what a repair gains: foretold and measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from labkit.errors import UsageError
from labkit.measure import DEVICE_PARTS, Gain, Measured, TrainingProfile
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, MUTED, STYLE, axis_scale, hatch_on, new_plot, text_on

__all__ = ["plot_gains", "plot_training_profile", "plot_utilisation"]

_ROW = 0.5  # inches a job
_ROOM = 0.052  # the share of the axis that the label of a part needs


def plot_training_profile(profiles: Mapping[str, TrainingProfile], *, title: str = "") -> Picture:
    """One bar a job: the medians of its parts, one behind the other, in milliseconds of a step.

    What a faster device would shorten has no hatch. The title is the finding, else the first job's largest part.
    """
    if not profiles:
        raise UsageError("plot_training_profile needs at least one profile; got none.")
    medians = {job: {part: one.part(part).value for part in one.parts_s} for job, one in profiles.items()}
    widest = max(sum(parts.values()) for parts in medians.values())
    scale, unit = axis_scale([widest], "s")
    first = next(iter(profiles.values()))
    found = f"{first.bottleneck}: {first.share(first.bottleneck).value:.0%} of a step"
    left = 0.35 + 0.08 * max(len(job) for job in profiles)
    figure, axes = new_plot(
        title or found,
        f"time of a step ({unit})",
        "",
        height=1.75 + _ROW * len(profiles),
        margins=(left, 0.5, 1.15, 0.5),
    )
    styles = _styles(tuple(first.parts_s))
    with rc_context(STYLE):
        for row, parts in enumerate(medians.values()):
            start = 0.0
            for part, seconds in parts.items():
                width = seconds / scale
                axes.barh(row, width, left=start, height=0.68, linewidth=0.6, edgecolor=INK, **styles[part])
                if seconds > _ROOM * widest:
                    _label(axes, start + width / 2, row, f"{width:.3g}", styles[part]["facecolor"])
                start += width
            axes.text(start + 0.012 * widest / scale, row, f"{start:.3g}", va="center", fontsize=9)
        axes.set_yticks(range(len(profiles)), list(profiles))
        axes.set_ylim(len(profiles) - 0.45, -0.55)
        axes.set_xlim(0, 1.1 * widest / scale)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        handles = [Patch(label=part, linewidth=0.6, edgecolor=INK, **paint) for part, paint in styles.items()]
        figure.legend(handles=handles, loc="lower left", ncols=4, bbox_to_anchor=(0.02, 0), columnspacing=1.4)
    told = [f"{job}: " + ", ".join(f"{p} {s / scale:.3g}" for p, s in parts.items()) for job, parts in medians.items()]
    figure.description = f"in {unit}, {'; '.join(told)}"
    return figure


def plot_utilisation(profile: TrainingProfile, *, title: str = "") -> Picture:
    """What is paid for, what the monitor shows, the time in which the device has work, and what was computed of what it
    could have: shares of one and the same step. Bars end at the median, whiskers at the interval."""
    rows = {
        "allocated (the bill)": None,
        "busy (the system's monitor)": profile.occupied,
        "device has work (by part)": profile.busy,
        "computed ÷ peak": profile.utilisation,
    }
    used = profile.utilisation.value
    figure, axes = new_plot(
        title or f"Allocated all of the time, and {used:.0%} of it is used",
        "share of the step (%)",
        "",
        height=3.0,
        margins=(2.35, 0.55, 0.6, 0.5),
    )
    with rc_context(STYLE):
        for row, figure_of in enumerate(rows.values()):
            value = 100.0 if figure_of is None else 100 * figure_of.value
            color = COLORS[7] if figure_of is None else COLORS[0]
            axes.barh(row, value, height=0.62, color=color, edgecolor=INK, linewidth=0.6, hatch="///"[: 3 * (not row)])
            end = value
            if figure_of is not None:
                ends = [[value - 100 * figure_of.low], [100 * figure_of.high - value]]
                axes.errorbar(value, row, xerr=ends, color=INK, capsize=3, linewidth=1.2)
                end = 100 * figure_of.high
            mark = "by definition" if figure_of is None else f"● {value:.0f}"
            axes.text(end + 1.5, row, mark, va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.45, -0.6)
        axes.set_xlim(0, 127)
        axes.set_xticks(range(0, 101, 20))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    figure.description = ", ".join(f"{name} {1.0 if one is None else one.value:.0%}" for name, one in rows.items())
    return figure


def plot_gains(predicted: Mapping[str, Gain], measured: Mapping[str, Measured], *, title: str = "") -> Picture:
    """A row a repair: the gain that was foretold (open diamond) and the one that came (filled circle), "×".

    The title is the finding, else the repair that was worth most.
    """
    if not measured or set(measured) - set(predicted):
        raise UsageError(
            f"plot_gains needs a prediction for each measured repair; got {', '.join(predicted) or 'none'} and "
            f"{', '.join(measured) or 'none'}."
        )
    best = max(measured, key=lambda name: measured[name].value)
    left = 0.35 + 0.08 * max(len(name) for name in predicted)
    figure, axes = new_plot(
        title or f"{best}: {measured[best].value:.2f}×; the profile said {predicted[best].value:.2f}×",
        "speed ÷ the job as it was found (×)",
        "",
        height=1.75 + 0.42 * len(predicted),
        margins=(left, 0.3, 0.95, 0.5),
    )
    marks: dict[str, Any] = {"linestyle": "none", "capsize": 3, "elinewidth": 1.3, "markersize": 8, "zorder": 3}
    drawn = {"◇ foretold": (predicted, -0.13, "D", "white", COLORS[5])}
    drawn["● measured"] = (measured, 0.13, "o", COLORS[0], COLORS[0])  # type: ignore[assignment]
    with rc_context(STYLE):
        axes.axvline(1.0, color=MUTED, linewidth=1.2, linestyle=":")
        for label, (rows, offset, marker, face, edge) in drawn.items():
            names = [name for name in predicted if name in rows]
            values = [rows[name].value for name in names]
            ends = [[v - rows[n].low for v, n in zip(values, names, strict=True)]]
            ends.append([rows[n].high - v for v, n in zip(values, names, strict=True)])
            at = [list(predicted).index(name) + offset for name in names]
            axes.errorbar(values, at, xerr=ends, marker=marker, mfc=face, mec=edge, ecolor=edge, label=label, **marks)
        axes.set_yticks(range(len(predicted)), list(predicted))
        axes.set_ylim(len(predicted) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="lower left", ncols=2, bbox_to_anchor=(0.02, 0))
    told = [f"{n}: foretold {g.value:.2f}×" for n, g in predicted.items()]
    figure.description = "; ".join([*told, *(f"{n}: measured {m.value:.2f}×" for n, m in measured.items())])
    return figure


def _styles(parts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The device's parts plain, in three tones of one hue; what it waits for hatched, each in its own way."""
    plain = dict(zip(DEVICE_PARTS, ("#0072B2", "#56B4E9", "#cfe6f5"), strict=True))
    waits = [part for part in parts if part not in plain]
    styles = {}
    for part in parts:
        color = plain.get(part) or (COLORS[1], COLORS[3], COLORS[5], COLORS[7])[waits.index(part)]
        hatch = "" if part in plain else HATCHES[1 + waits.index(part)]
        styles[part] = {"facecolor": color, "hatch": hatch, "hatchcolor": hatch_on(color)}
    return styles


def _label(axes: Axes, x: float, row: int, text: str, color: str) -> None:
    box = {"facecolor": color, "edgecolor": "none", "pad": 1.0}  # the hatch must not cross the digits
    axes.text(x, row, text, ha="center", va="center", fontsize=9, color=text_on(color), bbox=box)
