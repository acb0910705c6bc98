"""The interval between checkpoints: published approximations, the exact optimum, and what it is the optimum of."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from labkit.checkpoint.cadence import METHODS, optimal_interval
from labkit.errors import UsageError
from labkit.spot.goodput import expected_goodput

HOUR = 3600.0
times = st.floats(min_value=1e-2, max_value=1e7)


@pytest.mark.parametrize(
    ("write_s", "young", "daly", "exact"),
    [(600.0, 3600.0, 3211.1, 3211.6), (60.0, 1138.4, 1098.8, 1098.8)],
)
def test_a_failure_every_three_hours(write_s: float, young: float, daly: float, exact: float) -> None:
    found = {method: optimal_interval(write_s, 3 * HOUR, method) for method in METHODS}
    assert found == pytest.approx({"young": young, "daly": daly, "exact": exact}, abs=0.05)


@given(write_s=times, mtbf_s=times)
def test_the_exact_one_is_lamberts(write_s: float, mtbf_s: float) -> None:
    ratio = write_s / mtbf_s
    closed = mtbf_s * (1 + lambertw(-math.exp(-1 - ratio)).real)
    # scipy's value at its branch point, where a write costs next to nothing, is good to about the root of a float's ulp
    assert optimal_interval(write_s, mtbf_s) == pytest.approx(closed, rel=1e-9 + 1e-15 / ratio)


@given(write_s=times, mtbf_s=times)
def test_it_solves_its_own_equation(write_s: float, mtbf_s: float) -> None:
    u = optimal_interval(write_s, mtbf_s) / mtbf_s
    assert -math.expm1(-u - write_s / mtbf_s) == pytest.approx(u, rel=1e-12)
    assert 0 < u <= 1


@given(write_s=st.floats(1e-1, 1e4), mtbf_s=st.floats(1e2, 1e6))
def test_the_exact_one_maximises_goodput(write_s: float, mtbf_s: float) -> None:
    best = optimal_interval(write_s, mtbf_s)
    here = expected_goodput(best, write_s, 0, mtbf_s)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        assert expected_goodput(best * factor, write_s, 0, mtbf_s) <= here * (1 + 1e-12)
    for method in ("young", "daly"):
        assert expected_goodput(optimal_interval(write_s, mtbf_s, method), write_s, 0, mtbf_s) <= here * (1 + 1e-12)


def test_a_numeric_search_finds_the_same_interval() -> None:
    found = minimize_scalar(lambda t: -expected_goodput(t, 600, 0, 3 * HOUR), bounds=(60, 9000), method="bounded")
    assert optimal_interval(600, 3 * HOUR) == pytest.approx(found.x, rel=1e-4)


def test_daly_ends_at_the_mtbf() -> None:
    assert optimal_interval(2 * HOUR, HOUR, "daly") == HOUR
    assert optimal_interval(3 * HOUR, HOUR, "daly") == HOUR


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_times_that_cannot_be_meant(value: float) -> None:
    with pytest.raises(UsageError, match="write_s must be finite and above 0"):
        optimal_interval(value, HOUR)
    with pytest.raises(UsageError, match="mtbf_s must be finite and above 0"):
        optimal_interval(60, value)


def test_an_unknown_method_names_those_that_exist() -> None:
    with pytest.raises(UsageError, match="one of exact, young, daly; got 'dally'"):
        optimal_interval(60, HOUR, "dally")
