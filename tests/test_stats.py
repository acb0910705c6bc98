"""Intervals against their theorems: exact binomial coverage, and coverage counted on drawn samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, seed, settings
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


MEDIANS = {"exponential": math.log(2), "standard_cauchy": 0.0, "uniform": 0.5, "lognormal": 1.0}


@seed(1)
@settings(max_examples=30, deadline=None, database=None)
@given(
    n=st.integers(2, 60),
    coverage=st.sampled_from([0.5, 0.8, 0.95, 0.99]),
    drawn=st.sampled_from(sorted(MEDIANS)),
    rng_seed=st.integers(0, 2**32 - 1),
)
def test_the_interval_covers_as_often_as_it_says(n: int, coverage: float, drawn: str, rng_seed: int) -> None:
    """Whatever is drawn: the promise names no distribution. Five sigma, so that only a wrong interval fails."""
    samples = getattr(np.random.default_rng(rng_seed), drawn)(size=(400, n))
    hits = sum(MEDIANS[drawn] in stats.median_interval(row, coverage) for row in samples)
    promised = stats.median_interval(range(n), coverage).coverage
    assert abs(hits / 400 - promised) <= 5 * math.sqrt(promised * (1 - promised) / 400) + 1 / 400


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 12_000), coverage=st.floats(0.01, 0.9999))
def test_the_coverage_is_the_binomials_and_no_narrower_pair_reaches_it(n: int, coverage: float) -> None:
    interval = stats.median_interval(range(n), coverage)
    skipped = int(interval.low)
    assert interval.high == n - 1 - skipped
    assert interval.coverage == pytest.approx(max(0.0, 1 - 2 * binom.cdf(skipped, n, 0.5)), abs=1e-9)
    assert interval.coverage >= coverage - 1e-9 or skipped == 0
    assert 1 - 2 * binom.cdf(skipped + 1, n, 0.5) < coverage + 1e-9


def test_a_million_samples_are_no_trouble() -> None:
    """The latencies of a long trace: 1.96 · sqrt(n) / 2 ranks to each side of the middle (normal approximation)."""
    interval = stats.median_interval(np.arange(1e6))
    assert interval.width == pytest.approx(1.96 * 1000, rel=1e-3)
    assert interval.coverage == pytest.approx(1 - 2 * binom.cdf(int(interval.low), 10**6, 0.5), abs=1e-7)


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
        (lambda: stats.median_interval([]), "At least one sample is needed; got none"),
        (lambda: stats.median_interval([1, 2], 95), "between 0 and 1; got 95"),
        (lambda: stats.percentile([1, 2], 101), "between 0 and 100; got 101"),
        (lambda: stats.bootstrap_interval([1], np.mean, rng=np.random.default_rng(0), num_resamples=0), "at least 1"),
        (lambda: stats.bootstrap_interval([1], np.mean, rng=np.random.default_rng(0), coverage=0), "got 0"),
        (lambda: stats.Interval(low=2, high=1, coverage=0.9), "got 2 to 1"),
        (lambda: stats.median_relative_error([1], [0]), "other than zero"),
        (lambda: stats.median_interval([1, math.nan]), "must be finite"),
        (lambda: stats.median_relative_error([1], [1, 2]), "equally many"),
        (lambda: stats.ratio_interval([1], [0], rng=np.random.default_rng(0)), "positive"),
        (lambda: stats.ratio_interval([1, 2], [1], rng=np.random.default_rng(0), paired=True), "equally many"),
    ],
)
def test_bad_input(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
