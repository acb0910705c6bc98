"""Sizes that can be meant, and those that would fit: what the errors of many rooms have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import SupportsFloat

from labkit.errors import UsageError

__all__ = ["divisors", "either", "need_above_0", "need_int", "need_whole"]


def divisors(number: int) -> list[int]:
    """Every whole number that divides ``number``, the smallest first; none where it is 0."""
    return [d for d in range(1, number + 1) if number % d == 0]


def either(numbers: Iterable[int]) -> str:
    """As a sentence offers them: "1, 2 or 4"; "none" of none."""
    *some, last = list(map(str, numbers)) or ["none"]
    return f"{', '.join(some)} or {last}" if some else last


def need_above_0(**named: SupportsFloat) -> None:
    for name, value in named.items():
        if not 0 < float(value) < float("inf"):
            raise UsageError(f"{name} must be finite and above 0; got {value!r}.")


def need_whole(**named: int) -> None:
    """Whole by its value: 2.0 will do, and NumPy's numbers."""
    for name, value in named.items():
        if not (float(value) == value // 1 and value >= 1):
            raise UsageError(f"{name} must be a whole number of at least 1; got {value!r}.")


def need_int(**named: int) -> None:
    """Whole by its type: what is counted through."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} must be a whole number of at least 1; got {value!r}.")
