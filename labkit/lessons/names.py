"""Telling a reader which name was meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["choices"]


def choices(came: object, known: Iterable[str]) -> str:
    """``"got 'fulll'; known: full, quick. Did you mean full?"``: the second half of a message on an unknown name."""
    names = list(known)
    close = get_close_matches(str(came), names, n=1)
    told = f"got {came!r}; known: {', '.join(names) if names else 'none'}."
    return f"{told} Did you mean {close[0]}?" if close else told
