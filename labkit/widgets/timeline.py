"""A Timeline to play and scrub: state here in Python, the view in timeline.js."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.errors import UsageError
from labkit.measure import Span, Timeline
from labkit.plots.style import HATCHES, axis_scale, text_on
from labkit.plots.timeline import category_styles, plot_timeline, shown_categories, timeline_title
from labkit.units import format_quantity
from labkit.widgets.headless import is_headless

__all__ = ["SPEEDS", "TimelineView"]

# At speed 1 the whole timeline plays in ten seconds, whether it lasts a millisecond or a day.
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
_FOLDER = Path(__file__).parent
_VIEW = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in ("timeline_clock.js", "timeline.js"))


class TimelineView(anywidget.AnyWidget):
    """``time_s`` (on the timeline's own clock), ``playing`` and ``speed``, in step with every open view.

    Space plays, left and right step from event to event, Home and End go to the ends. Where no front end runs it is
    the still picture of ``plot_timeline``.
    """

    _esm = _VIEW
    _css = _FOLDER / "timeline.css"
    data = traitlets.Dict(read_only=True).tag(sync=True)
    time_s = traitlets.Float(0.0).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Float(1.0).tag(sync=True)

    def __init__(
        self, timeline: Timeline, *, title: str | None = None, time_s: float | None = None, speed: float = 1.0
    ) -> None:
        if not timeline.spans:
            raise UsageError(
                "TimelineView got a timeline without spans; record at least one, for example with Recorder.span."
            )
        self.timeline = timeline
        self._title = timeline_title(timeline, title)
        self._still: tuple[bytes, dict[str, int]] | None = None
        super().__init__(time_s=timeline.start_s if time_s is None else time_s, speed=speed)
        self.set_trait("data", _data(timeline, self._title))

    def at(self) -> dict[str, Span | None]:
        """What each lane does at ``time_s``."""
        return dict(self.timeline.at(self.time_s))

    @traitlets.validate("time_s")
    def _inside(self, proposal: dict[str, Any]) -> float:
        wanted = float(proposal["value"])
        if not math.isfinite(wanted):
            raise UsageError(f"time_s must be a time in the timeline; got {wanted}.")
        return min(self.timeline.end_s, max(self.timeline.start_s, wanted))

    @traitlets.validate("speed")
    def _known_speed(self, proposal: dict[str, Any]) -> float:
        if proposal["value"] not in SPEEDS:
            raise UsageError(f"speed must be one of {', '.join(f'{s:g}' for s in SPEEDS)}; got {proposal['value']:g}.")
        return float(proposal["value"])

    def __repr__(self) -> str:
        return plot_timeline(self.timeline, title=self._title).alt_text

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._still is None:
            self._still = plot_timeline(self.timeline, title=self._title)._repr_png_()
        png, size = self._still
        live, metadata = ({}, {}) if is_headless() else super()._repr_mimebundle_(**kwargs) or ({}, {})
        bundle = {**live, "text/plain": repr(self), "image/png": base64.b64encode(png).decode("ascii")}
        return bundle, {**metadata, "image/png": size}


def _data(timeline: Timeline, title: str) -> dict[str, Any]:
    """All that the view draws, as plain JSON; times in seconds on the timeline's own clock."""
    lanes = list(timeline.lanes)
    shown = shown_categories(timeline)
    styles = category_styles(shown)
    number = {name: i for i, name in enumerate(styles)}
    row = {lane: i for i, lane in enumerate(lanes)}
    scale, unit = axis_scale([timeline.duration_s], "s")
    return {
        "title": title,
        "start": timeline.start_s,
        "end": timeline.end_s,
        "scale": scale,
        "unit": unit,
        "lanes": [str(lane) for lane in lanes],
        "busy": [timeline.utilisation(lane) for lane in lanes],
        "categories": [
            {"name": name, "color": color, "hatch": HATCHES.index(hatch), "ink": text_on(color)}
            for name, (color, hatch) in styles.items()
        ],
        "spans": [
            {
                "lane": row[span.lane],
                "start": span.start_s,
                "end": span.end_s,
                "name": span.name,
                "category": number[kind],
                "detail": _detail(span),
            }
            for span, kind in zip(timeline.spans, shown, strict=True)
        ],
    }


def _detail(span: Span) -> str:
    """``args`` as a line: ``bytes = 64 MB, step = 3``."""
    return ", ".join(f"{key} = {format_quantity(v, '') if isinstance(v, float) else v}" for key, v in span.args.items())
