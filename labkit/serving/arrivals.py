"""When requests come: seconds after the start of a load, from a seeded recipe or from a trace.

A trace is any sequence of such times. Poisson arrivals understate real tails: the gaps of the public code-completion
trace have a coefficient of variation of 13, those of a Poisson process 1 (Azure LLM inference trace, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.serving.requests import Request

__all__ = ["checked_arrivals", "poisson_arrivals", "uniform_arrivals", "with_arrivals"]


def poisson_arrivals(rate_per_s: float, num_requests: int, seed: int) -> tuple[float, ...]:
    """Times (s) of a Poisson process: independent exponential gaps of mean 1 / rate_per_s, the first gap included."""
    _check_recipe(rate_per_s, num_requests)
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, num_requests)
    return tuple(float(time_s) for time_s in np.cumsum(gaps))


def uniform_arrivals(rate_per_s: float, num_requests: int) -> tuple[float, ...]:
    """Times (s) with one gap, 1 / rate_per_s; the first request comes at 0."""
    _check_recipe(rate_per_s, num_requests)
    return tuple(index / rate_per_s for index in range(num_requests))


def checked_arrivals(arrivals: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    """The times as floats; UsageError unless there is one at least, and all are finite, sorted and not negative."""
    times = tuple(float(time_s) for time_s in arrivals)
    if not times:
        raise UsageError("Arrivals need at least one time; got none.")
    for index, time_s in enumerate(times):
        if not math.isfinite(time_s) or time_s < 0:
            raise UsageError(f"An arrival is a finite time, 0 s or later; got {time_s} at index {index}.")
        if index and time_s < times[index - 1]:
            came = f"{times[index - 1]} s and then {time_s} s at index {index}"
            raise UsageError(f"Arrivals must be sorted; got {came}. Use sorted(arrivals).")
    return times


def with_arrivals(requests: Sequence[Request], arrivals: Sequence[float] | NDArray[np.float64]) -> tuple[Request, ...]:
    """The same requests, each at its time (s), in order. UsageError when the times are no trace for them."""
    times = checked_arrivals(arrivals)
    if len(times) != len(requests):
        raise UsageError(f"Each request needs one arrival; got {len(requests)} requests and {len(times)} arrivals.")
    return tuple(replace(request, arrival_s=time_s) for request, time_s in zip(requests, times, strict=True))


def _check_recipe(rate_per_s: float, num_requests: int) -> None:
    if not (math.isfinite(rate_per_s) and rate_per_s > 0):
        raise UsageError(f"rate_per_s must be positive and finite; got {rate_per_s}.")
    if num_requests < 1:
        raise UsageError(f"num_requests must be at least 1; got {num_requests}.")
