"""Pipelines in pictures: which stage did what when, simulated or measured, and the bubble against micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import compress
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.measure import Measured, Span, Timeline
from labkit.parallel.cost import pipeline_bubble
from labkit.parallel.schedule_timeline import bubble
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, STYLE, axis_scale, hatch_on, new_plot, text_on

__all__ = ["plot_bubble", "plot_schedules"]

_ROW = 0.27  # inches a stage
_IDLE = "#e9e9e9"
_LEFT, _RIGHT, _WIDTH = 0.85, 0.25, 7.0
# kind -> (colour of even chunks, of odd chunks, hatch): dark, light and dotted, so that no colour is needed
_KINDS = {
    "forward": (COLORS[0], "#3f9bd4", HATCHES[0]),
    "backward": ("#F3C25B", "#FBE3B0", HATCHES[1]),
    "weights": (COLORS[2], COLORS[2], HATCHES[2]),
}
_LABEL = 0.15  # inches that a number needs at 7 points
_MOST_LABELS, _MOST_EDGED = 260, 1000  # of more none could be read, or seen


def plot_schedules(timelines: Mapping[str, Timeline], *, unit: str = "s", title: str = "") -> Picture:
    """A panel a timeline, a row a stage, on one time axis: forward, backward and weights, with their micro-batches.

    Grey is idle time. unit: "s" for measured times, else what the simulated ones are counted in. The title is the
    finding, else each timeline's bubble (idle ÷ ideal).
    """
    if not timelines or not all(timeline.spans for timeline in timelines.values()):
        raise UsageError("plot_schedules needs at least one timeline with at least one action.")
    longest_s = max(timeline.duration_s for timeline in timelines.values())
    scale, shown = axis_scale([longest_s], "s") if unit == "s" else (1.0, unit)
    rows = [_ROW * len(timeline.lanes) for timeline in timelines.values()]
    height = 0.55 + sum(rows) + 0.34 * len(rows) + 0.85
    found = ", ".join(f"{name} {bubble(timeline):.0%}" for name, timeline in timelines.items())
    figure, axes = new_plot(
        title or f"Idle over ideal time: {found}", f"time ({shown})", "stage", height=height,
        margins=(_LEFT, _RIGHT, 0.85, 0.55),
    )  # fmt: skip
    top_in = height * figure.subplotpars.top  # below the title, however many lines it has
    axes.set_axis_off()
    labels = sum(len(timeline.spans) for timeline in timelines.values())
    with rc_context(STYLE):
        for (name, timeline), tall in zip(timelines.items(), rows, strict=True):
            top_in -= 0.24
            box = (_LEFT / _WIDTH, (top_in - tall) / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, tall / height)
            panel = figure.add_axes(box)
            _draw(panel, timeline, longest_s, scale, labels)
            panel.set_title(f"{name}: {bubble(timeline):.1%} bubble", loc="left", fontsize=9.5, weight="normal", pad=3)
            top_in -= tall + 0.1
        panel.tick_params(axis="x", labelbottom=True)
        panel.set_xlabel(f"time ({shown})")
        kinds = [kind for kind in _KINDS if any(s.category == kind for t in timelines.values() for s in t.spans)]
        handles = [
            Patch(
                facecolor=_KINDS[kind][0], hatch=_KINDS[kind][2], hatchcolor=hatch_on(_KINDS[kind][0]), linewidth=0,
                label=kind,
            )
            for kind in kinds
        ]  # fmt: skip
        handles.append(Patch(facecolor=_IDLE, linewidth=0, label="idle: the bubble"))
        figure.legend(handles=handles, loc="lower left", ncols=4, bbox_to_anchor=(0.09, 0))
    figure.description = "; ".join(
        f"{name}: {len(timeline.lanes)} stages, bubble {bubble(timeline):.1%}" for name, timeline in timelines.items()
    )
    return figure


def _draw(axes: Axes, timeline: Timeline, longest_s: float, scale: float, actions: int) -> None:
    start, lanes = timeline.start_s, {lane: row for row, lane in enumerate(timeline.lanes)}
    axes.broken_barh([(0, timeline.duration_s / scale)], (-0.5, len(lanes)), facecolor=_IDLE, linewidth=0)
    room = (_WIDTH - _LEFT - _RIGHT) / longest_s  # inches a second
    drawn: dict[tuple[str, int], list[Span]] = {}
    for span in timeline.spans:
        drawn.setdefault((span.category, int(span.args.get("chunk", 0)) % 2), []).append(span)
    edge = 0.5 if actions <= _MOST_EDGED else 0.0
    for (kind, odd), spans in drawn.items():  # one shape a kind, hatched once: a redraw in a tenth of a second
        color, hatch = _KINDS[kind][odd], _KINDS[kind][2]
        boxes = np.array([_box(span, start, lanes[span.lane], scale) for span in spans])  # (spans, corners, 2)
        paint: dict[str, Any] = {"facecolor": color, "hatch": hatch, "hatchcolor": hatch_on(color)}
        axes.add_artist(PathPatch(_joined(boxes), linewidth=edge, edgecolor="white", **paint))  # add_patch seeks limits
        texts = [str(span.args.get("microbatch", "")) for span in spans]
        fits = [span.duration_s * room >= _LABEL * max(1.0, 0.6 * len(t)) for span, t in zip(spans, texts, strict=True)]
        if actions <= _MOST_LABELS and any(fits):
            _number(axes, boxes[fits, :4].mean(axis=1), list(compress(texts, fits)), color)
    axes.set_xlim(0, longest_s / scale)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_yticks(range(len(lanes)), [lane.removeprefix("stage ") for lane in lanes])
    axes.set_ylabel("stage")
    axes.grid(visible=False)
    axes.tick_params(axis="both", length=0, labelbottom=False)


def _box(span: Span, start_s: float, row: int, scale: float) -> list[tuple[float, float]]:
    left, right = (span.start_s - start_s) / scale, (span.end_s - start_s) / scale
    return [(left, row - 0.46), (right, row - 0.46), (right, row + 0.46), (left, row + 0.46), (left, row - 0.46)]


def _joined(boxes: NDArray[np.float64]) -> Path:
    """All boxes as one path."""
    one = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(boxes.reshape(-1, 2), np.tile(np.array(one, dtype=np.uint8), len(boxes)))


def _number(axes: Axes, at: NDArray[np.float64], texts: list[str], color: str) -> None:
    """The texts as shapes, all in one collection (an artist each would take longer than all the rest), and behind
    each a patch of the ground, so that no hatch crosses it. Sizes are in inches."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    grounds = [Path([(-w, -0.06), (w, -0.06), (w, 0.06), (-w, 0.06)]) for w in (0.015 + 0.032 * len(t) for t in texts)]
    for paths, paint in ((grounds, color), ([_glyphs(text) for text in texts], text_on(color))):
        shapes = PathCollection(paths, offsets=at, offset_transform=axes.transData, facecolor=paint, linewidth=0)
        shapes.set_transform(figure.dpi_scale_trans)
        axes.add_collection(shapes, autolim=False)


@cache
def _glyphs(text: str) -> Path:
    """A text of 7 points around the origin, in inches."""
    path = TextPath((0, 0), text, size=7)
    box = path.get_extents()
    return Path((path.vertices - ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)) / 72, path.codes)


def plot_bubble(
    measured: Mapping[int, Measured], *, num_stages: int, held_out: Sequence[int] = (), title: str = ""
) -> Picture:
    """The bubble (idle ÷ ideal, a fraction, by micro-batches) with its interval over the closed form's line.

    held_out: the counts that a prediction had not seen (open marks). The title is the finding, else what more
    micro-batches brought.
    """
    if not measured:
        raise UsageError("plot_bubble needs at least one measured number of micro-batches.")
    few, many = min(measured), max(measured)
    found = f"From {few} to {many} micro-batches the bubble falls from {measured[few].value:.0%} to "
    found += f"{measured[many].value:.0%} of the ideal time"
    figure, axes = new_plot(title or found, "micro-batches", "bubble, idle ÷ ideal time (%)", log_x=True, log_y=True)
    with rc_context(STYLE):
        counts = [few * (many / few) ** (i / 40) for i in range(41)] if many > few else [few]
        line = [100 * (num_stages - 1) / count for count in counts]
        axes.plot(counts, line, color=INK, linewidth=1.5, label=f"◇ (p - 1)/m for p = {num_stages}", zorder=1)
        for is_open in (False, True):
            chosen = [m for m in measured if (m in held_out) == is_open]
            if not chosen:
                continue
            values = [100 * measured[m].value for m in chosen]
            low = [100 * (measured[m].value - measured[m].low) for m in chosen]
            high = [100 * (measured[m].high - measured[m].value) for m in chosen]
            axes.errorbar(
                chosen, values, yerr=[low, high], fmt="D" if is_open else "o", color=COLORS[5 if is_open else 0],
                markerfacecolor="white" if is_open else COLORS[0], markersize=7, linestyle="none", elinewidth=1.2,
                label="● measured, not seen by the fit" if is_open else "● measured", zorder=3,
            )  # fmt: skip
        axes.set_xticks(sorted(measured))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.legend(loc="upper right")
    exact = {m: pipeline_bubble(num_stages, m) for m in measured}
    figure.description = "; ".join(f"{m}: {f.value:.1%}, closed form {exact[m]:.1%}" for m, f in measured.items())
    return figure
