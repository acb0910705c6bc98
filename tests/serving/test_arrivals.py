from __future__ import annotations

import math

import numpy as np
import pytest

from labkit.errors import UsageError
from labkit.serving.arrivals import checked_arrivals, poisson_arrivals, uniform_arrivals, with_arrivals
from labkit.serving.requests import Request


def test_poisson_gaps_are_exponential_and_seeded() -> None:
    times = poisson_arrivals(50.0, 20_000, seed=3)
    gaps = np.diff(times, prepend=0.0)
    assert (gaps >= 0).all()
    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.05)  # six sigma of a mean over 20,000 are 0.042
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1.0, rel=0.1)
    assert np.mean(gaps > 1 / 50) == pytest.approx(math.exp(-1), abs=0.03)
    assert times == poisson_arrivals(50.0, 20_000, seed=3)
    assert times != poisson_arrivals(50.0, 20_000, seed=4)


def test_uniform() -> None:
    assert uniform_arrivals(4.0, 3) == (0.0, 0.25, 0.5)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_is_positive_and_finite(rate: float) -> None:
    with pytest.raises(UsageError, match="rate_per_s must be positive"):
        poisson_arrivals(rate, 3, seed=0)
    with pytest.raises(UsageError, match="rate_per_s must be positive"):
        uniform_arrivals(rate, 3)


def test_no_arrivals_cannot_be_asked_for() -> None:
    with pytest.raises(UsageError, match="num_requests must be at least 1; got 0"):
        poisson_arrivals(1.0, 0, seed=0)


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ([], "at least one time"),
        ([0.0, math.nan], "finite time.*nan at index 1"),
        ([0.0, math.inf], "finite time.*inf at index 1"),
        ([-0.1], "0 s or later; got -0.1"),
        ([1.0, 0.5], "sorted; got 1.0 s and then 0.5 s at index 1"),
    ],
)
def test_what_is_no_trace(trace: list[float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checked_arrivals(trace)


def test_a_trace_gives_each_request_its_time() -> None:
    requests = [Request(prompt=(n,), max_tokens=1) for n in range(3)]
    timed = with_arrivals(requests, np.array([0.0, 0.5, 0.5]))
    assert [(one.prompt, one.arrival_s) for one in timed] == [((0,), 0.0), ((1,), 0.5), ((2,), 0.5)]
    with pytest.raises(UsageError, match="got 3 requests and 2 arrivals"):
        with_arrivals(requests, [0.0, 1.0])
