"""Goodput by its closed form, against a simulation that knows nothing of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.spot.goodput import expected_goodput


def simulated(interval_s: float, write_s: float, restart_s: float, mtbf_s: float, stretches: int, seed: int) -> float:
    """Stretch by stretch: each try ends by a failure drawn anew, or by the checkpoint's last byte."""
    rng, elapsed = np.random.default_rng(seed), 0.0
    for _ in range(stretches):
        while (failure := rng.exponential(mtbf_s)) < interval_s + write_s:
            elapsed += failure + restart_s
        elapsed += interval_s + write_s
    return stretches * interval_s / elapsed


@pytest.mark.parametrize(
    ("interval_s", "write_s", "restart_s", "mtbf_s"),
    [(3211.6, 600, 0, 10800), (600, 30, 120, 3600), (100, 0, 300, 200), (3600, 60, 60, 86400)],
)
def test_against_a_simulation(interval_s: float, write_s: float, restart_s: float, mtbf_s: float) -> None:
    found = simulated(interval_s, write_s, restart_s, mtbf_s, stretches=60_000, seed=5)
    assert expected_goodput(interval_s, write_s, restart_s, mtbf_s) == pytest.approx(found, rel=0.01)


@given(
    interval_s=st.floats(1, 1e5), write_s=st.floats(0, 1e4), restart_s=st.floats(0, 1e4), mtbf_s=st.floats(1e-1, 1e7)
)
def test_a_fraction_that_every_trouble_lowers(
    interval_s: float, write_s: float, restart_s: float, mtbf_s: float
) -> None:
    goodput = expected_goodput(interval_s, write_s, restart_s, mtbf_s)
    assert 0 <= goodput <= 1
    assert expected_goodput(interval_s, write_s + 1, restart_s, mtbf_s) <= goodput
    assert expected_goodput(interval_s, write_s, restart_s + 1, mtbf_s) <= goodput
    assert expected_goodput(interval_s, write_s, restart_s, 2 * mtbf_s) >= goodput * (1 - 1e-12)


def test_without_failures_only_the_write_costs() -> None:
    assert expected_goodput(900, 100, 0, 1e15) == pytest.approx(0.9, rel=1e-9)


def test_a_stretch_that_never_ends() -> None:
    assert expected_goodput(1e6, 0, 0, 1) == 0.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ((0, 1, 1, 1), "interval_s and mtbf_s must be finite and above 0; got 0 and 1"),
        ((1, 1, 1, -3), "got 1 and -3"),
        ((1, -1, 0, 1), "write_s and restart_s must be finite and at least 0; got -1 and 0"),
        ((1, 0, math.inf, 1), "got 0 and inf"),
        ((math.nan, 0, 0, 1), "got nan and 1"),
    ],
)
def test_times_that_cannot_be_meant(call: tuple[float, float, float, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        expected_goodput(*call)
