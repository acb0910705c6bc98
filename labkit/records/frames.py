"""Rows of the records as a DataFrame whose columns have the same types with and without rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

__all__ = ["frame_of"]

_PARSED = ("code", "config", "data", "notes", "seed")
_NUMBERS = ("figure", "high", "low", "off_by", "value")


def frame_of(columns: list[str], rows: list[tuple[Any, ...]]) -> pandas.DataFrame:
    """``*_at``: UTC timestamps; figures: float64; hit: boolean with missing ones; JSON: parsed; all else: text."""
    import pandas

    frame = pandas.DataFrame(rows, columns=columns)
    for name in columns:
        column = frame[name]
        if name.endswith("_at"):
            frame[name] = pandas.to_datetime(column.astype("float64"), unit="s", utc=True).astype("datetime64[ns, UTC]")
        elif name in _PARSED:
            frame[name] = pandas.Series([json.loads(text) for text in column], dtype="object")
        elif name in _NUMBERS:
            frame[name] = column.astype("float64")
        elif name == "hit":
            frame[name] = column.astype("boolean")
        else:
            frame[name] = column.astype("int64" if name.startswith("num_") else "str")
    return frame
