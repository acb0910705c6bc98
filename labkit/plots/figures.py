"""The one renderer of the three kinds of figure: what was measured here, what was simulated, what was quoted.

The mark and the word carry the kind, so that neither colour nor font is needed to read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from labkit.measure import Figure, Measured, Quoted, Simulated
from labkit.units import format_quantity

__all__ = [
    "KEY",
    "MARKS",
    "Shown",
    "figure_html",
    "figure_text",
    "interval_text",
    "mark_html",
    "range_text",
    "show_figures",
    "value_text",
]

MARKS = {"measured": "●", "simulated": "◇", "quoted": "❝"}
KEY = "● measured here  ◇ simulated by a calibrated model  ❝ quoted from a source"
_TONES = {"measured": "#2585c7", "simulated": "#c9701a", "quoted": "#9467c4"}  # on white and on black


class Shown:
    """Something that a notebook shows as ``html`` and a terminal as ``text``."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self.text = html, text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def value_text(figure: Figure) -> str:
    """``"83.1 GFLOP/s"``."""
    return format_quantity(figure.value, figure.unit)


def figure_text(figure: Figure) -> str:
    """One line: mark, kind, name, value, and what makes the figure worth its kind."""
    return f"{MARKS[figure.kind]} {figure.kind}  {_named(figure)}{value_text(figure)}  ({'; '.join(_grounds(figure))})"


def figure_html(figure: Figure) -> str:
    """The same line as HTML; every text of the figure is escaped."""
    grounds = escape("; ".join(_grounds(figure)))
    return (
        f'<div class="labkit-figure" style="margin:2px 0;line-height:1.5">{mark_html(figure.kind)} '
        f'{escape(_named(figure))}<strong style="font-variant-numeric:tabular-nums">'
        f"{escape(value_text(figure))}</strong> "
        f'<span style="opacity:.75">({grounds})</span></div>'
    )


def mark_html(kind: str) -> str:
    """The mark and the word of a kind."""
    return (
        f'<span style="white-space:nowrap;border:1px solid {_TONES[kind]};border-radius:3px;padding:0 5px;'
        f'font-size:85%"><span aria-hidden="true" style="color:{_TONES[kind]}">{MARKS[kind]}</span> {kind}</span>'
    )


def show_figures(*figures: Figure) -> Shown:
    """The figures one below the other, with the key of the marks below."""
    text = "\n".join([*(figure_text(f) for f in figures), KEY])
    key = f'<div style="opacity:.65;font-size:85%;margin-top:4px">{escape(KEY)}</div>'
    return Shown("<div>" + "".join(figure_html(f) for f in figures) + key + "</div>", text)


def interval_text(figure: Figure) -> str:
    """``"81 to 84.2 GFLOP/s"``, or nothing where there is no interval."""
    low, high = getattr(figure, "low", None), getattr(figure, "high", None)
    if low is None or high is None:
        return ""
    return range_text(low, high, figure.unit)


def range_text(low: float, high: float, unit: str) -> str:
    """``"81 to 84.2 GFLOP/s"``; the unit once where both ends have the same prefix."""
    first, last = format_quantity(low, unit), format_quantity(high, unit)
    number, _, shown = first.partition(" ")
    return f"{number} to {last}" if shown == last.partition(" ")[2] else f"{first} to {last}"


def _named(figure: Figure) -> str:
    return f"{figure.name}: " if figure.name else ""


def _grounds(figure: Figure) -> Iterable[str]:
    if isinstance(figure, Measured):
        yield (
            f"{interval_text(figure)} at {figure.coverage:.0%}" if figure.n > 1 else "a single reading, no spread known"
        )
        yield f"n = {figure.n}" + (f" after {figure.warmup} warm-up" if figure.warmup else "")
        if figure.machine:
            yield f"machine {figure.machine}"
    elif isinstance(figure, Simulated):
        if interval_text(figure):
            yield interval_text(figure)
        yield f"calibrated on {figure.calibrated_on}"
        yield f"error {figure.error:.1%} on what it did not see"
    elif isinstance(figure, Quoted):
        yield f"source: {figure.source}"
