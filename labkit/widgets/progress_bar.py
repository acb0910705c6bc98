"""One updating bar for a long call: ``with progress("measure") as on_progress: calibrate(on_progress=on_progress)``."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from types import TracebackType
from typing import Any, Self

from IPython import get_ipython
from IPython.display import display

from labkit.plots.figures import Shown
from labkit.units import format_seconds
from labkit.widgets.headless import is_headless

__all__ = ["Progress", "progress"]

_REFRESH_S = 0.1  # 10 Hz


class Progress:
    """An ``on_progress`` callable that draws one bar, at most ten times a second, and leaves one line.

    Used bare it ends when the fraction reaches 1; as a context manager at the end of the block, also after an error.
    Outside IPython it draws nothing, and without a front end (LABKIT_HEADLESS=1) the last line alone.
    """

    def __init__(self, label: str, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.label, self._clock = label, clock
        self._start_s = clock()
        self._drawn_s = -float("inf")
        self._handle: Any = None
        self._in_block = self._done = False

    def __call__(self, fraction: float, message: str = "") -> None:
        """Say how far the work is: ``fraction`` in 0..1, and what is being done."""
        if self._done and not self._in_block:  # the same callable, used for a second call
            self._start_s, self._handle, self._done = self._clock(), None, False
        now = self._clock()
        fraction = min(1.0, max(0.0, fraction))
        if fraction >= 1.0 and not self._in_block:
            self._finish("done")
        elif not is_headless() and now - self._drawn_s >= _REFRESH_S:
            self._drawn_s = now
            self._draw(_bar(self.label, fraction, message, now - self._start_s))

    def __enter__(self) -> Self:
        self._in_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._finish("done" if kind is None else f"stopped by {kind.__name__}")
        self._in_block = False

    def _finish(self, outcome: str) -> None:
        self._done = True
        line = f"{self.label}: {outcome} in {format_seconds(self._clock() - self._start_s)}"
        self._draw(Shown(f'<div style="opacity:.75">{escape(line)}</div>', line))

    def _draw(self, shown: Shown) -> None:
        if get_ipython() is None:
            return
        if self._handle is None:
            self._handle = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown)


def progress(label: str, *, clock: Callable[[], float] = time.perf_counter) -> Progress:
    """A bar named ``label``; hand it over as ``on_progress=``."""
    return Progress(label, clock=clock)


def _bar(label: str, fraction: float, message: str, elapsed_s: float) -> Shown:
    left = (
        f", about {format_seconds(elapsed_s * (1 - fraction) / fraction)} to go"
        if fraction > 0.05 and elapsed_s > 2
        else ""
    )
    text = f"{label}: {fraction:.0%}{left}" + (f" · {message}" if message else "")
    html = (
        f'<div style="display:flex;gap:10px;align-items:center"><span>{escape(label)}</span>'
        f'<progress max="1" value="{fraction:.3f}" aria-label="{escape(label, quote=True)}" style="width:220px">'
        f"</progress>"
        f'<span style="font-variant-numeric:tabular-nums">{fraction:.0%}{escape(left)}</span>'
        f'<span style="opacity:.75">{escape(message)}</span></div>'
    )
    return Shown(html, text)
