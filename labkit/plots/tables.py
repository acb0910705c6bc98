"""Tables of figures with their spread: a bare number never stands alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, TypeGuard

from labkit.errors import UsageError
from labkit.measure import Figure, Measured, Quoted, Simulated
from labkit.plots.figures import MARKS, Shown, interval_text, mark_html, value_text

__all__ = ["table"]

_HEAD = ("kind", "what", "value", "spread", "interval", "n", "where from")
_NUMERIC = {"value", "spread", "interval", "n"}
_NARROW = 24  # characters


def table(rows: Iterable[Figure] | Iterable[Mapping[str, Any]] | Mapping[str, Figure], *, caption: str = "") -> Shown:
    """A table of figures, or of mappings whose cells may be figures.

    Figures become rows with kind, value, relative spread (half the interval over the value), interval, n and origin; a
    mapping of figures names them by its keys. Rows that are mappings keep their own columns: a figure in a cell is
    written as its mark, value and ± spread.
    """
    if isinstance(rows, Mapping):
        return _render([_figure_row(f, name) for name, f in rows.items()], caption)
    listed = list(rows)
    figures = [row for row in listed if _is_figure(row)]
    records = [row for row in listed if isinstance(row, Mapping)]
    if len(figures) == len(listed):
        return _render([_figure_row(figure, figure.name) for figure in figures], caption)
    if len(records) == len(listed):
        return _render([{str(k): _cell(v) for k, v in row.items()} for row in records], caption)
    kinds = ", ".join(sorted({type(row).__name__ for row in listed}))
    raise UsageError(
        f"table() got rows of {kinds}. Give figures (Measured, Simulated, Quoted) or mappings, not a mixture."
    )


def _is_figure(value: Any) -> TypeGuard[Figure]:
    return isinstance(value, Measured | Simulated | Quoted)


def _figure_row(figure: Figure, name: str) -> dict[str, str]:
    where = {"measured": "machine", "simulated": "calibrated_on", "quoted": "source"}[figure.kind]
    origin = str(getattr(figure, where))
    if isinstance(figure, Simulated):
        origin = f"calibrated on {origin}, error {figure.error:.1%} on what it did not see"
    count = str(figure.n) if isinstance(figure, Measured) else ""
    cells = (figure.kind, name, value_text(figure), _spread(figure), interval_text(figure), count, origin)
    return dict(zip(_HEAD, cells, strict=True))


def _spread(figure: Figure) -> str:
    low, high = getattr(figure, "low", None), getattr(figure, "high", None)
    if low is None or high is None or not figure.value or low == high:
        return ""
    return f"± {(high - low) / 2 / abs(figure.value):.1%}"


def _cell(value: Any) -> str:
    if _is_figure(value):
        return f"{MARKS[value.kind]} {value_text(value)} {_spread(value)}".strip()
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _render(rows: Sequence[Mapping[str, str]], caption: str) -> Shown:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return Shown(_html(rows, columns, caption), _text(rows, columns, caption))


def _right(rows: Sequence[Mapping[str, str]], column: str) -> bool:
    cells = [row.get(column, "") for row in rows]
    return column in _NUMERIC or (
        any(cells) and all(not c or c[0] in "0123456789-±" or c[0] in MARKS.values() for c in cells)
    )


def _text_width(rows: Sequence[Mapping[str, str]], column: str) -> int:
    """Characters below which a column of text is not squeezed: one word a line is hard to read."""
    return min(_NARROW, max((len(row.get(column, "")) for row in rows), default=0))


def _html(rows: Sequence[Mapping[str, str]], columns: Sequence[str], caption: str) -> str:
    right = {column: _right(rows, column) for column in columns}
    align = {
        c: "padding:2px 10px;vertical-align:top;"
        + ("text-align:right;white-space:nowrap" if right[c] else f"text-align:left;min-width:{_text_width(rows, c)}ch")
        for c in columns
    }
    head = "".join(f'<th scope="col" style="{align[c]}">{escape(c)}</th>' for c in columns)
    body = ""
    for row in rows:
        cells = ""
        for column in columns:
            text = row.get(column, "")
            inner = mark_html(text) if column == "kind" and text in MARKS else escape(text)
            cells += f'<td style="{align[column]};font-variant-numeric:tabular-nums">{inner}</td>'
        body += f"<tr>{cells}</tr>"
    title = (
        f'<caption style="text-align:left;font-weight:600;padding:2px 10px">{escape(caption)}</caption>'
        if caption
        else ""
    )
    return f'<table style="border-collapse:collapse">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _text(rows: Sequence[Mapping[str, str]], columns: Sequence[str], caption: str) -> str:
    marked = [
        {c: f"{MARKS[v]} {v}" if c == "kind" and (v := row.get(c, "")) in MARKS else row.get(c, "") for c in columns}
        for row in rows
    ]
    widths = {c: max(len(c), *(len(row[c]) for row in marked)) if marked else len(c) for c in columns}
    lines = [{c: c for c in columns}, *marked]
    right = {c: _right(rows, c) for c in columns}
    text = [
        "  ".join(line[c].rjust(widths[c]) if right[c] else line[c].ljust(widths[c]) for c in columns).rstrip()
        for line in lines
    ]
    return "\n".join([caption, *text] if caption else text)
