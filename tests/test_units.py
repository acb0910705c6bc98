"""Units as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import units


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.31e9, "FLOP/s", "1.31 GFLOP/s"),
        (999.96e9, "B/s", "1 TB/s"),  # rounds up into the next prefix
        (0.0123, "s", "12.3 ms"),
        (1234, "s", "1,234 s"),  # nobody says kiloseconds
        (12345, "tokens/s", "12,345 tokens/s"),
        (2.5, "×", "2.5 ×"),
        (0, "s", "0 s"),
        (153.02, "FLOP/B", "153 FLOP/B"),
        (float("nan"), "s", "nan s"),
        (-2e6, "B", "-2 MB"),
    ],
)
def test_format_quantity(value: float, unit: str, text: str) -> None:
    assert units.format_quantity(value, unit) == text


@given(st.floats(1e-12, 1e18))
def test_a_printed_quantity_is_its_value_to_three_figures(value: float) -> None:
    number, unit = units.format_quantity(value, "B/s").split()
    factor = {
        "p": 1e-12,
        "n": 1e-9,
        "µ": 1e-6,
        "m": 1e-3,
        "": 1,
        "k": 1e3,
        "M": 1e6,
        "G": 1e9,
        "T": 1e12,
        "P": 1e15,
        "E": 1e18,
    }
    assert float(number.replace(",", "")) * factor[unit.removesuffix("B/s")] == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("seconds", "text"), [(95, "1 min 35 s"), (7300, "2 h 1 min"), (59.4, "59.4 s"), (1e-6, "1 µs")]
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert units.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(3 << 30, "3.0 GiB"), (512, "512 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_format_bytes(size: int, text: str) -> None:
    assert units.format_bytes(size) == text


def test_a_gib_is_not_a_gb() -> None:
    assert (units.GIB, units.GB) == (2**30, 10**9)


def test_fewer_digits_than_places_round_without_an_exponent() -> None:
    assert units.format_quantity(205, "FLOP/B", digits=2) == "200 FLOP/B"
