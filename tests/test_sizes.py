"""Sizes: which divide, how a sentence offers them, and what cannot be meant."""

from __future__ import annotations

import pytest

from labkit.errors import UsageError
from labkit.sizes import divisors, either, need_int, need_whole


@pytest.mark.parametrize(
    ("number", "told"), [(0, "none"), (1, "1"), (2, "1 or 2"), (7, "1 or 7"), (12, "1, 2, 3, 4, 6 or 12")]
)
def test_a_number_offers_its_divisors(number: int, told: str) -> None:
    assert either(divisors(number)) == told


def test_what_is_counted_through_is_an_int() -> None:
    need_whole(stages=2.0)  # type: ignore[arg-type]
    for value in (2.0, True, 0):
        with pytest.raises(UsageError, match="stages must be a whole number of at least 1"):
            need_int(stages=value)  # type: ignore[arg-type]
