"""When the market takes an instance back: by a trace's clock, or after a life that each instance is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from labkit.errors import UsageError
from labkit.sizes import need_above_0
from labkit.spot.availability import Availability

__all__ = ["Lives", "Market", "Replay", "exponential_lives"]


class Market(Protocol):
    """All times in seconds since the job began."""

    def available(self, now_s: float) -> bool: ...

    def reclaim_at(self, number: int, start_s: float, ready_s: float | None) -> float:
        """When spot instance ``number`` (0 is the first) ends; infinite where nobody knows yet, or never."""
        ...


class Replay:
    """A trace, as it was; speed: so many of its seconds pass in one."""

    def __init__(self, trace: Availability, *, speed: float = 1.0) -> None:
        need_above_0(speed=speed)
        self.trace, self.speed = trace, speed

    def available(self, now_s: float) -> bool:
        return self.trace.is_up(now_s * self.speed)

    def reclaim_at(self, number: int, start_s: float, ready_s: float | None) -> float:
        until = self.trace.up_until(start_s * self.speed)
        return start_s if until is None else until / self.speed


class Lives:
    """Always to be had; each instance lives so many seconds from its first step on. Behind the last: for ever.

    That is what the closed form of goodput assumes: nothing interrupts a restart.
    """

    def __init__(self, lives_s: Sequence[float]) -> None:
        if not all(0 < life < math.inf for life in lives_s):
            raise UsageError(f"lives_s must be finite and above 0; got {list(lives_s)}.")
        self.lives_s = tuple(lives_s)

    def available(self, now_s: float) -> bool:
        return True

    def reclaim_at(self, number: int, start_s: float, ready_s: float | None) -> float:
        if ready_s is None or number >= len(self.lives_s):
            return math.inf
        return ready_s + self.lives_s[number]


def exponential_lives(mean_s: float, number: int, *, seed: int) -> tuple[float, ...]:
    """The means of ``number`` equal shares of an exponential distribution, in a seeded order.

    So a run of few reclaims stands for the distribution, and not for one draw from it.
    """
    if not (0 < mean_s < math.inf and number >= 1):
        raise UsageError(f"mean_s must be finite and above 0, number at least 1; got {mean_s!r} and {number}.")
    # The integral of the quantile function −ln(1 − p) is (1 − p)·ln(1 − p) + p.
    ends = np.linspace(0, 1, number + 1)
    inside = np.append((1 - ends[:-1]) * np.log1p(-ends[:-1]) + ends[:-1], 1.0)
    lives = mean_s * number * np.diff(inside)
    return tuple(float(life) for life in np.random.default_rng(seed).permutation(lives))
