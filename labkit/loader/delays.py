"""Delays of known length, put where a loader spends its time, so that an instrument can be asked to find them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from labkit.errors import UsageError
from labkit.loader.samples import Prepare

__all__ = ["DelayedPrepare", "delayed_step", "work"]


def work(seconds: float) -> None:
    """Keep this core busy for so long, to a few microseconds: a sleep ends too late by more than that."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class DelayedPrepare:
    """``prepare``, and ``delay_s`` seconds of work for each sample."""

    def __init__(self, prepare: Prepare, delay_s: float, *, sleep: Callable[[float], object] = work) -> None:
        self.prepare, self.delay_s, self.sleep = prepare, _checked(delay_s), sleep

    def __call__(self, content: bytes) -> Tensor:
        self.sleep(self.delay_s)
        return self.prepare(content)


def delayed_step(
    step: Callable[[Any], object], delay_s: float, *, sleep: Callable[[float], object] = work
) -> Callable[[Any], object]:
    """A training step that takes ``delay_s`` longer: a slower device."""
    _checked(delay_s)

    def late(batch: Any) -> object:
        sleep(delay_s)
        return step(batch)

    return late


def _checked(delay_s: float) -> float:
    if not 0 <= delay_s < math.inf:
        raise UsageError(f"A delay is at least 0 s and finite; got {delay_s} s.")
    return delay_s
