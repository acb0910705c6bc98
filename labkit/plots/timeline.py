"""A Timeline as a picture: one row a lane, one colour and hatch a category, the busy share at the end of each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from labkit.errors import UsageError
from labkit.measure import Span, Timeline
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, MUTED, STYLE, axis_scale, hatch_on, new_plot, text_on
from labkit.units import format_seconds

__all__ = ["category_styles", "plot_timeline", "shown_categories", "timeline_title"]

_MOST_KINDS = 12
_ROW = 0.36  # inches a lane
_CHARACTER = 0.075  # inches a character of a span's name at 8 points


def shown_categories(timeline: Timeline) -> tuple[str, ...]:
    """What each span is drawn as: its category, else its name; past a dozen kinds, the shortest in sum are "other"."""
    kinds = [span.category or span.name for span in timeline.spans]
    total_s: dict[str, float] = dict.fromkeys(kinds, 0.0)
    for kind, span in zip(kinds, timeline.spans, strict=True):
        total_s[kind] += span.end_s - span.start_s
    if len(total_s) > _MOST_KINDS:
        kept = sorted(total_s, key=lambda kind: -total_s[kind])[: _MOST_KINDS - 1]
        kinds = [kind if kind in kept else "other" for kind in kinds]
    return tuple(kinds)


def category_styles(shown: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Category -> (colour, hatch), in the order of first appearance."""
    # Colours and hatches shift against each other, so that 64 pairs come before the first repeat.
    return {name: (COLORS[i % 8], HATCHES[(i + i // 8) % 8]) for i, name in enumerate(dict.fromkeys(shown))}


def plot_timeline(timeline: Timeline, *, title: str | None = None, width: float = 7.0) -> Picture:
    """The lanes from top to bottom over time. The title is the timeline's, or the busiest and the idlest lane."""
    if not timeline.spans:
        raise UsageError(
            "plot_timeline got a timeline without spans; record at least one, for example with Recorder.span."
        )
    lanes = list(timeline.lanes)
    start, duration = timeline.start_s, timeline.duration_s
    scale, unit = axis_scale([duration], "s")
    left = 0.35 + 0.085 * max(len(str(lane)) for lane in lanes)
    shown = shown_categories(timeline)
    styles = category_styles(shown)
    longest = 0.55 + 0.08 * max(len(str(name)) for name in styles)  # inches of a legend's entry
    legend_columns = min(len(styles), 4, max(1, int((width - left) / longest)))
    legend_rows = -(-len(styles) // legend_columns)
    below = 0.6 + 0.24 * legend_rows
    height = 0.5 + below + _ROW * len(lanes)
    figure, axes = new_plot(
        timeline_title(timeline, title),
        f"time ({unit})",
        "",
        width=width,
        height=height,
        margins=(left, 0.75, below, 0.5),
    )
    inches_per_s = (width - left - 0.75) / duration if duration else 0.0
    with rc_context(STYLE):
        for row, lane in enumerate(lanes):
            spans = [(s, kind) for s, kind in zip(timeline.spans, shown, strict=True) if s.lane == lane]
            _draw_lane(axes, row, spans, start, scale, styles, inches_per_s)
            share = f"{timeline.utilisation(lane):.0%} busy"
            axes.text(1.01, row, share, transform=axes.get_yaxis_transform(), va="center", color=MUTED, fontsize=8.5)
        axes.set_yticks(range(len(lanes)), [str(lane) for lane in lanes])
        axes.set_ylim(len(lanes) - 0.5, -0.5)
        axes.set_xlim(0, duration / scale if duration else 1)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_ylabel("lane")
        axes.yaxis.label.set_visible(False)
        handles = [
            Patch(facecolor=c, hatch=h, hatchcolor=hatch_on(c), linewidth=0, label=n) for n, (c, h) in styles.items()
        ]
        figure.legend(handles=handles, loc="lower left", ncols=legend_columns, bbox_to_anchor=(left / width - 0.02, 0))
    shares = ", ".join(f"{lane} {timeline.utilisation(lane):.0%}" for lane in lanes[:12])
    figure.description = f"{len(lanes)} lanes over {format_seconds(duration)}; busy: {shares}"
    return figure


def _draw_lane(
    axes: Axes,
    row: int,
    spans: list[tuple[Span, str]],
    start: float,
    scale: float,
    styles: dict[str, tuple[str, str]],
    inches_per_s: float,
) -> None:
    for category, (color, hatch) in styles.items():
        ranges = [((s.start_s - start) / scale, (s.end_s - s.start_s) / scale) for s, kind in spans if kind == category]
        if ranges:
            paint: dict[str, Any] = {"facecolor": color, "hatch": hatch, "hatchcolor": hatch_on(color)}
            axes.broken_barh(ranges, (row - 0.38, 0.76), linewidth=0.6, edgecolor="white", **paint)
    for span, kind in spans:
        seconds = span.end_s - span.start_s
        if len(span.name) * _CHARACTER < seconds * inches_per_s and span.name != kind:
            color = styles[kind][0]
            middle = (span.start_s - start + seconds / 2) / scale
            box = {"facecolor": color, "edgecolor": "none", "pad": 1.0}  # the hatch must not cross the letters
            axes.text(middle, row, span.name, ha="center", va="center", fontsize=8, color=text_on(color), bbox=box)


def timeline_title(timeline: Timeline, title: str | None = None) -> str:
    """What was asked for, else the timeline's own title, else who is busiest and who idlest."""
    if title or timeline.title:
        return title or timeline.title
    shares = {lane: timeline.utilisation(lane) for lane in timeline.lanes}
    busiest, idlest = max(shares, key=lambda k: shares[k]), min(shares, key=lambda k: shares[k])
    if len(shares) == 1:
        return f"{busiest} is busy {shares[busiest]:.0%} of the time"
    if round(shares[busiest], 2) == round(shares[idlest], 2):
        return f"Every lane is busy {shares[busiest]:.0%} of the time"
    return f"{busiest} is busy {shares[busiest]:.0%} of the time, {idlest} {shares[idlest]:.0%}"
