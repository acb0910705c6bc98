"""Intervals against their theorems: exact binomial coverage, and coverage counted on drawn samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from labkit import stats

samples_of = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("n", "ranks"), [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (12, (3, 10)), (20, (6, 15)), (50, (18, 33))]
)
def test_ranks_are_those_of_the_published_tables(n: int, ranks: tuple[int, int]) -> None:
    """The 95 % sign-test interval's ranks, as tables of order statistics give them (e.g. Conover 1999)."""
    interval = stats.median_interval(range(1, n + 1))
    assert (interval.low, interval.high) == ranks
    assert interval.coverage == pytest.approx(1 - 2 * binom.cdf(ranks[0] - 1, n, 0.5))
    assert interval.coverage >= 0.95


def test_too_few_samples_give_the_range_and_say_what_it_covers() -> None:
    interval = stats.median_interval([3, 1, 2])
    assert (interval.low, interval.high, interval.coverage) == (1, 3, 0.75)
    assert stats.median_interval([7]).coverage == 0


@settings(max_examples=100, deadline=None)
@given(samples_of)
def test_the_interval_holds_the_sample_median(samples: list[float]) -> None:
    assert float(np.median(samples)) in stats.median_interval(samples)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = sum(math.log(2) in stats.median_interval(rng.exponential(size=15)) for _ in range(2000))
    promised = stats.median_interval(range(15)).coverage
    assert abs(hits / 2000 - promised) < 4 * math.sqrt(promised * (1 - promised) / 2000)


def test_the_bootstrap_covers_a_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    draw = lambda: stats.bootstrap_interval(rng.normal(5, 2, 40), np.mean, rng=rng, num_resamples=300)  # noqa: E731
    hits = sum(5 in draw() for _ in range(200))
    assert 0.87 <= hits / 200 <= 1.0


def test_pairing_removes_the_drift_that_both_share() -> None:
    rng = np.random.default_rng(3)
    drift = np.linspace(1, 3, 21)
    ratio, paired = stats.ratio_interval(2 * drift, drift, rng=rng, paired=True)
    _, unpaired = stats.ratio_interval(2 * drift, drift, rng=rng)
    assert ratio == pytest.approx(2)
    assert paired.width == pytest.approx(0, abs=1e-12)
    assert unpaired.width > 0.3
    assert 2 in unpaired


def test_percentiles_are_numpys() -> None:
    values = [5.0, 1.0, 9.0, 4.0]
    assert stats.percentiles(values) == {q: float(np.percentile(values, q)) for q in (50, 95, 99)}
    assert stats.percentile(values, 0) == 1


def test_spread_and_relative_error() -> None:
    assert stats.relative_spread([90, 100, 110, 100, 100]) == 0
    assert stats.relative_spread([0, 0]) == math.inf
    assert stats.median_relative_error([110, 90, 200], [100, 100, 100]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stats.median_interval([]), "At least 1 samples are needed; got 0"),
        (lambda: stats.median_interval([1, math.nan]), "must be finite"),
        (lambda: stats.median_relative_error([1], [1, 2]), "equally many"),
        (lambda: stats.ratio_interval([1], [0], rng=np.random.default_rng(0)), "positive"),
        (lambda: stats.ratio_interval([1, 2], [1], rng=np.random.default_rng(0), paired=True), "equally many"),
    ],
)
def test_bad_input(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
