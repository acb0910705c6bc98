"""Serving in pictures: who sat in which slot, step by step, and throughput against concurrency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from matplotlib import rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from labkit.errors import UsageError
from labkit.measure import Measured, Timeline
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, MUTED, STYLE, hatch_on, new_plot, text_on

__all__ = ["plot_slots", "plot_throughput"]

_ROW = 0.17  # inches a slot
_SHADES = (COLORS[0], COLORS[4])  # neighbours in a slot alternate, so that each stay can be told from the next
_PREFILL = COLORS[5]


class _Run(Protocol):
    @property
    def max_num_seqs(self) -> int: ...
    @property
    def num_steps(self) -> int: ...
    def timeline(self, *, by_step: bool = False) -> Timeline: ...


def plot_slots(runs: Mapping[str, _Run], *, title: str = "") -> Picture:
    """One panel a run, one row a slot: who sat there at each model step. White is a slot that nobody used.

    All panels share the axis of steps. The title is the finding, else the steps of the first and the last run.
    """
    if not runs or not all(run.num_steps for run in runs.values()):
        raise UsageError("plot_slots needs at least one run with recorded steps (record=True).")
    names, most = list(runs), max(run.num_steps for run in runs.values())
    first, last = names[0], names[-1]
    found = f"The same requests: {first} takes {runs[first].num_steps} model steps"
    found += f", {last} {runs[last].num_steps}" if last != first else ""
    rows = [max(run.max_num_seqs * _ROW, 0.45) for run in runs.values()]
    height = 0.55 + sum(rows) + 0.42 * len(rows) + 0.85
    figure, axes = new_plot(title or found, "model steps", "", height=height, margins=(0.6, 0.25, 0.85, 0.55))
    axes.set_axis_off()
    axes.xaxis.label.set_visible(False)
    with rc_context(STYLE):
        top = height - 0.75 - (height - 0.55 - 0.85 - sum(rows) - 0.42 * len(rows)) / 2
        for name, tall in zip(names, rows, strict=True):
            panel = figure.add_axes((0.6 / 7, (top - tall - 0.1) / height, 6.15 / 7, tall / height))
            _draw_slots(panel, runs[name], most)
            steps = runs[name].num_steps
            panel.set_title(f"{name}: {steps} steps", loc="left", fontsize=9.5, fontweight="normal", pad=3)
            top -= tall + 0.42
        panel.set_xlabel("model steps")
        panel.tick_params(axis="x", labelbottom=True)
        handles = [
            Patch(facecolor=_PREFILL, label="prefill"),
            Patch(facecolor=_SHADES[0], label="decode"),
            Patch(
                facecolor=_SHADES[1], hatch=HATCHES[1], hatchcolor=hatch_on(_SHADES[1]), label="decode, next request"
            ),
            Patch(facecolor="white", edgecolor=MUTED, linewidth=0.6, label="empty slot"),
        ]
        figure.legend(handles=handles, loc="lower left", ncols=4, bbox_to_anchor=(0.06, 0))
    figure.description = "; ".join(
        f"{name}: {run.max_num_seqs} slots, {run.num_steps} steps" for name, run in runs.items()
    )
    return figure


def _draw_slots(axes: Axes, run: _Run, most: int) -> None:
    axes.set_facecolor("white")
    timeline = run.timeline(by_step=True)
    for lane in timeline.lanes:
        row = int(lane.split()[1])
        shade = 1
        for span in timeline.of(lane):
            if span.category == "prefill":
                shade += 1
                paint: dict[str, Any] = {"facecolor": _PREFILL}
            else:
                color = _SHADES[shade % 2]
                paint = {"facecolor": color, "hatch": HATCHES[shade % 2], "hatchcolor": hatch_on(color)}
            axes.broken_barh([(span.start_s, span.duration_s)], (row - 0.42, 0.84), linewidth=0, **paint)
            room = span.duration_s / most * 6.15
            if span.category != "prefill" and len(span.name) * 0.075 < room:
                box = {"facecolor": color, "edgecolor": "none", "pad": 0.4}
                middle = (span.start_s + span.end_s) / 2
                axes.text(
                    middle, row, span.name, ha="center", va="center", fontsize=6.5, color=text_on(color), bbox=box
                )
    axes.set_xlim(0, most)
    axes.set_ylim(run.max_num_seqs - 0.5, -0.5)
    axes.set_yticks([0, run.max_num_seqs - 1] if run.max_num_seqs > 1 else [0])
    axes.set_ylabel("slot")
    axes.grid(visible=False)
    axes.tick_params(axis="x", labelbottom=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
        axes.spines[side].set_color("#bbbbbb")


class _StepTime(Protocol):
    @property
    def ceiling_tokens_per_s(self) -> float: ...
    def tokens_per_s(self, batch: float) -> float: ...


def plot_throughput(
    measured: Mapping[str, Mapping[int, Measured]],
    *,
    fit: _StepTime | None = None,
    held_out: Sequence[int] = (),
    title: str = "",
) -> Picture:
    """Tokens/s against concurrency, both logarithmic, one series an engine, with the intervals of the measurements.

    fit: drawn over the first series; ``held_out`` are the batches of that series that the fit did not see (open).
    The title is the finding, else what the largest concurrency brought over the smallest.
    """
    if not measured or not all(measured.values()):
        raise UsageError("plot_throughput needs at least one engine with at least one measured concurrency.")
    name, points = next(iter(measured.items()))
    low, high = min(points), max(points)
    gain = points[high].value / points[low].value
    found = f"{name[:1].upper()}{name[1:]}: {high} sequences at once bring {gain:.1f}× the tokens/s of {low}"
    figure, axes = new_plot(title or found, "sequences at once", "throughput (tokens/s)", log_x=True, log_y=True)
    with rc_context(STYLE):
        if fit is not None:
            batches = [low * (high / low) ** (i / 60) for i in range(61)]
            curve = [fit.tokens_per_s(batch) for batch in batches]
            axes.plot(batches, curve, color=INK, linewidth=1.5, label="◇ fit of the step time", zorder=1)
        for index, (engine, series) in enumerate(measured.items()):
            unseen = [b for b in series if index == 0 and b in held_out]
            seen = [b for b in series if b not in unseen]
            marker = "os^"[index % 3]
            _draw(axes, series, seen, marker, COLORS[(0, 5, 2)[index % 3]], False, f"● {engine}")
            if unseen:
                _draw(axes, series, unseen, "D", COLORS[5], True, f"● {engine}, not seen by the fit")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.set_xticks(sorted({b for series in measured.values() for b in series}))
        axes.legend(loc="upper left")
    figure.description = "; ".join(
        f"{engine}: " + ", ".join(f"{b}: {m.value:.0f}" for b, m in series.items())
        for engine, series in measured.items()
    )
    return figure


def _draw(
    axes: Axes, series: Mapping[int, Measured], batches: list[int], marker: str, color: str, is_open: bool, label: str
) -> None:
    values = [series[b].value for b in batches]
    spread = [
        [series[b].value - series[b].low for b in batches],
        [series[b].high - series[b].value for b in batches],
    ]
    axes.errorbar(
        batches, values, yerr=spread, fmt=marker, color=color, markerfacecolor="white" if is_open else color,
        markersize=7, linestyle="none", elinewidth=1.2, label=label, zorder=3,
    )  # fmt: skip
