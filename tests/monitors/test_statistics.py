"""Sums, maxima and thresholds against closed forms and against simulations that know nothing of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.monitors import (
    Cusum,
    average_run_length,
    expected_maximum,
    expected_normal_maximum,
    fix_threshold,
    share_interval,
)


def brook_evans(threshold: float, slack: float, shift: float, cells: int = 400) -> float:
    """The run length by a Markov chain over the sum's values (Brook and Evans 1972), (I − Q)⁻¹·1 at 0."""
    width = 2 * threshold / (2 * cells - 1)
    middles = width * np.arange(cells)
    phi = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))
    gaps = middles[None, :] - middles[:, None] + slack - shift  # from row to column
    chances = phi(gaps + width / 2) - phi(gaps - width / 2)
    chances[:, 0] = phi(gaps[:, 0] + width / 2)
    return float(np.linalg.solve(np.eye(cells) - chances, np.ones(cells))[0])


@pytest.mark.parametrize(("threshold", "slack"), [(3.0, 0.5), (4.0, 0.5), (5.0, 0.5), (4.0, 1.0)])
def test_the_run_length_is_that_of_the_markov_chain(threshold: float, slack: float) -> None:
    for shift in (0.0, slack, 1.0, 2.0):
        exact = brook_evans(threshold, slack, shift)
        assert average_run_length(threshold, slack, shift) == pytest.approx(exact, rel=0.07)


def test_the_sum_runs_as_long_as_the_chain_says() -> None:
    rng = np.random.default_rng(3)
    lengths = []
    for _ in range(600):
        one, step = Cusum(threshold=4.0, slack=0.5), 1
        while not one.add(float(rng.normal(1.0))):
            step += 1
        lengths.append(step)
    assert np.mean(lengths) == pytest.approx(brook_evans(4.0, 0.5, 1.0), abs=4 * np.std(lengths) / math.sqrt(600))


def test_a_single_hiccup_is_clipped_and_an_alert_is_given_once() -> None:
    one = Cusum(threshold=2.0, slack=0.5, clip=1.5)
    assert not one.add(1e9)
    assert one.value == 1.0
    assert [one.add(1.5) for _ in range(4)] == [False, True, False, False]
    assert one.value <= 4.0  # capped: a fault that was mended is forgotten
    assert [one.add(0.0) for _ in range(9)] == [False] * 9
    assert one.value == 0.0


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.integers(1, 5))
def test_the_expected_maximum_is_the_mean_over_all_draws(samples: list[float], n: int) -> None:
    exact = np.mean(np.max(np.meshgrid(*[samples[:4]] * n), axis=0))
    assert expected_maximum(samples[:4], n) == pytest.approx(float(exact), abs=1e-9)
    assert expected_maximum(samples, 1) == pytest.approx(float(np.mean(samples)), abs=1e-9)


def test_the_expected_maximum_of_normals() -> None:
    assert expected_normal_maximum(1) == pytest.approx(0.0, abs=1e-9)
    assert expected_normal_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-9)
    assert expected_normal_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-9)
    assert expected_normal_maximum(4, 10.0, 2.0) == pytest.approx(10 + 2 * 1.0293753730, abs=1e-8)
    draws = np.random.default_rng(0).normal(size=(20_000, 64)).max(axis=1)
    assert expected_normal_maximum(64) == pytest.approx(draws.mean(), abs=4 * draws.std() / math.sqrt(20_000))


def test_a_share_has_the_exact_interval() -> None:
    none, all_of_them, some = (share_interval("s", count, 50) for count in (0, 50, 10))
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 50))
    assert all_of_them.low == pytest.approx(0.025 ** (1 / 50))
    tail = sum(math.comb(50, k) * some.low**k * (1 - some.low) ** (50 - k) for k in range(10, 51))
    assert tail == pytest.approx(0.025, rel=1e-6)


def test_what_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="other seeds"):
        fix_threshold([])
    with pytest.raises(UsageError, match="finite peaks"):
        fix_threshold([1.0, math.nan])
    with pytest.raises(UsageError, match="clip above its slack"):
        Cusum(threshold=1.0, slack=1.0, clip=1.0)
    with pytest.raises(UsageError, match="threshold above 0"):
        Cusum(threshold=math.nan, slack=1.0)
    with pytest.raises(UsageError, match="finite threshold"):
        average_run_length(math.inf, 0.5)
    with pytest.raises(UsageError, match="finite samples"):
        expected_maximum([1.0, math.nan], 2)
    with pytest.raises(UsageError, match="n of at least 1"):
        expected_normal_maximum(0)
    with pytest.raises(UsageError, match="at least one trial"):
        share_interval("s", 2, 1)
    assert fix_threshold([1.0, 2.0], margin=0.5) == 3.0
    assert fix_threshold([0.0], at_least=4.5) == 4.5
    with pytest.raises(UsageError, match="ever left 0"):
        fix_threshold([0.0])
