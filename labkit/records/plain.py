"""Plain data as the records keep it: JSON, into which NumPy's numbers and paths turn by themselves."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from labkit.errors import UsageError

__all__ = ["to_json"]


def to_json(value: Any, what: str) -> str:
    """``what`` names the value in the UsageError that anything else gives."""
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{what} is plain data: numbers, texts, lists, and dicts with texts as keys; {error}."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"got a {type(value).__name__}")
