"""A panel: controls over a pure computation, redrawn in place as they move."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from labkit.errors import UsageError
from labkit.plots.picture import describe, picture_png
from labkit.widgets.controls import Control, build_control, extremes
from labkit.widgets.headless import error_html, is_headless, record_failure
from labkit.widgets.inputs import PictureView

__all__ = ["Panel", "Swept"]

# A panel at rest answers at once. Events that come while it draws, or just after, wait for each other this long and are
# drawn once, for the last of them.
_GATHER_S, _REST_S = 0.01, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One setting that a sweep tried, and how long compute, render and drawing took."""

    values: Mapping[str, Any]
    redraw_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    png: bytes = b""
    html: str = ""
    text: str = ""


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """``compute(**values) -> data`` and ``render(data) -> matplotlib Figure, HTML or text``, with a control a value.

    A moved control redraws at once; of events that queue up only the last is drawn. An error is shown in the panel in
    red and recorded, and the panel goes on. Without a front end (LABKIT_HEADLESS=1) making a panel runs its ``sweep``,
    which raises, and it shows as a still picture. ``last_redraw_s`` is the time of the last redraw.
    """

    def __init__(
        self,
        compute: Callable[..., Any],
        render: Callable[[Any], Any],
        controls: Mapping[str, Control],
        *,
        title: str = "",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not controls:
            raise UsageError("A Panel needs at least one control; got none. Show the figure itself instead.")
        self._compute, self._render, self._clock = compute, render, clock
        self._specs = dict(controls)
        self._title = title
        self._pending: asyncio.TimerHandle | None = None
        self._drawn_s = -float("inf")
        self._still = _View()
        self.last_redraw_s = float("nan")
        self.num_redraws = 0
        self.inputs = {name: build_control(name, control) for name, control in controls.items()}
        self._defaults = self.values
        self._image = PictureView(layout={"display": "none", "max_width": "100%"})
        self._html = ipywidgets.HTML(layout={"display": "none", "max_width": "100%"})
        self._error = ipywidgets.HTML(layout={"display": "none", "max_width": "100%"})
        heading = [ipywidgets.HTML(f"<strong>{escape(title)}</strong>")] if title else []
        super().__init__([*heading, *self.inputs.values(), self._error, self._image, self._html])
        self.add_class("labkit-panel")
        if is_headless():
            self.sweep()
        for widget in self.inputs.values():
            widget.observe(self._on_change, names="value")
        self.redraw()

    @property
    def values(self) -> dict[str, Any]:
        """What the controls say now."""
        return {name: widget.value for name, widget in self.inputs.items()}

    @property
    def error_text(self) -> str:
        """The HTML of the error shown now, or nothing."""
        return str(self._error.value)

    def redraw(self) -> None:
        """Compute and draw at the present values. An error is shown in the panel; without a front end it raises."""
        values = self.values
        try:
            view, self.last_redraw_s = self._draw(values)
        except Exception as error:
            if is_headless():
                raise
            self._error.value = error_html(error, where=f"the panel{f' “{self._title}”' if self._title else ''}")
            self._error.layout.display = ""
            # A picture of other values beside the error would be taken for theirs.
            self._image.layout.display = self._html.layout.display = "none"
            return
        self.num_redraws += 1
        self._still = view
        self._error.value, self._error.layout.display = "", "none"
        self._image.alt, self._image.png = view.text, view.png
        self._image.layout.display = "" if view.png else "none"
        self._html.value, self._html.layout.display = view.html, "" if view.html else "none"

    def sweep(self) -> tuple[Swept, ...]:
        """Compute and draw at the default and at each control's extremes, the others at theirs; errors raise."""
        default = self._defaults
        settings = [dict(default)]
        for name, control in self._specs.items():
            settings += [{**default, name: value} for value in extremes(control) if value != default[name]]
        return tuple(Swept(values=values, redraw_s=self._draw(values)[1]) for values in settings)

    def _draw(self, values: Mapping[str, Any]) -> tuple[_View, float]:
        start = self._clock()
        try:
            view = _view(self._render(self._compute(**values)))
        except Exception as error:
            error.add_note(f"In the panel {self._title or '(untitled)'} at {dict(values)}.")
            record_failure("Panel", error, where=self._title, values=dict(values))
            raise
        return view, self._clock() - start

    def _on_change(self, _change: object) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # plain Python: nothing queues up behind us
            self.redraw()
            return
        if self._pending is None:
            if loop.time() - self._drawn_s > _REST_S:
                self._redraw_pending(loop)
            else:
                self._pending = loop.call_later(_GATHER_S, self._redraw_pending, loop)

    def _redraw_pending(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pending = None
        self.redraw()
        self._drawn_s = loop.time()

    def __repr__(self) -> str:
        return f"Panel {self._title}: " + ", ".join(f"{name}={value}" for name, value in self.values.items())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {} if is_headless() else dict(super()._repr_mimebundle_(**kwargs) or {})
        bundle["text/plain"] = "\n".join(text for text in (repr(self), self._still.text) if text)
        if self._still.png:
            bundle["image/png"] = base64.b64encode(self._still.png).decode("ascii")
        if self._still.html:
            bundle["text/html"] = self._still.html
        return bundle


def _view(drawn: Any) -> _View:
    """A figure as PNG, an object with ``_repr_html_`` or a str as HTML (a str that is not HTML is escaped)."""
    if isinstance(drawn, Figure):
        return _View(png=picture_png(drawn), text=describe(drawn))
    if isinstance(drawn, str):
        is_html = drawn.lstrip().startswith("<")
        return _View(html=drawn if is_html else f"<pre>{escape(drawn)}</pre>", text="" if is_html else drawn)
    if hasattr(drawn, "_repr_html_"):
        return _View(html=str(drawn._repr_html_()), text=repr(drawn))
    raise UsageError(
        f"A panel's render must return a matplotlib Figure, a str or an object with _repr_html_; "
        f"got {type(drawn).__name__}."
    )
