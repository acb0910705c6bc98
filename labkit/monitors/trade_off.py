"""What a threshold buys and costs: the steps to a detection, and the healthy steps between two false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.monitors.cusum import average_run_length
from labkit.monitors.straggler import CLIP

__all__ = ["TradeOff", "modelled_trade_off", "resampled_trade_off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOff:
    """By threshold: mean steps from a fault to its alert, and healthy steps between two false alarms of any rank."""

    thresholds: tuple[float, ...]
    delay_steps: tuple[float, ...]
    between_steps: tuple[float, ...]


def resampled_trade_off(
    times_s: NDArray[np.float64],
    thresholds: Sequence[float],
    *,
    slowdown: float = 1.3,
    num_runs: int = 200,
    most_steps: int = 4000,
    seed: int = 0,
) -> TradeOff:
    """times_s: (steps, ranks) of a healthy run. Whole steps are drawn from it again and again, with the last rank
    ``slowdown`` times slower for the delay. Between false alarms: all healthy steps ÷ alarms; infinite where none was
    seen in num_runs · most_steps."""
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 2 or times.shape[1] < 2 or not len(times) or not (np.isfinite(times) & (times > 0)).all():
        raise UsageError(f"Times are (steps, ranks) of at least 2 ranks, finite and above 0; got shape {times.shape}.")
    rng = np.random.default_rng(seed)
    slow = times.copy()
    slow[:, -1] *= slowdown
    slack = math.log(slowdown) / 2
    delays, between = [], []
    for threshold in thresholds:
        lengths, _ = _run_lengths(_logs(slow)[:, -1:], threshold, slack, num_runs, most_steps, rng)
        delays.append(float(lengths.mean()))
        steps, alarmed = _run_lengths(_logs(times), threshold, slack, num_runs, most_steps, rng)
        between.append(float(steps.sum() / alarmed.sum()) if alarmed.any() else math.inf)
    return TradeOff(thresholds=tuple(thresholds), delay_steps=tuple(delays), between_steps=tuple(between))


def modelled_trade_off(
    deviation: float, thresholds: Sequence[float], *, num_ranks: int, slowdown: float = 1.3
) -> TradeOff:
    """The same if logarithms of times were normal with this standard deviation, and ranks independent: `cusum`'s closed
    form in units of the deviation; n ranks raise n times as many false alarms."""
    if not deviation > 0 or num_ranks < 2:
        raise UsageError(f"A model needs a deviation above 0 and at least 2 ranks; got {deviation} and {num_ranks}.")
    slack, shift = math.log(slowdown) / 2 / deviation, math.log(slowdown) / deviation
    scaled = [threshold / deviation for threshold in thresholds]
    return TradeOff(
        thresholds=tuple(thresholds),
        delay_steps=tuple(average_run_length(h, slack, shift) for h in scaled),
        between_steps=tuple(average_run_length(h, slack) / num_ranks for h in scaled),
    )


def _logs(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(steps, ranks) logarithms of each time over its step's lower median, clipped as the monitor clips them."""
    typical = np.sort(times, axis=1)[:, (times.shape[1] - 1) // 2, None]
    logs: NDArray[np.float64] = np.minimum(np.log(times / typical), CLIP)
    return logs


def _run_lengths(
    logs: NDArray[np.float64], threshold: float, slack: float, num_runs: int, most_steps: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Steps until the first of the ranks' sums passes the threshold, or most_steps; and whether one did."""
    sums = np.zeros((num_runs, logs.shape[1]))
    lengths, alarmed = np.full(num_runs, most_steps), np.zeros(num_runs, dtype=bool)
    for step in range(1, most_steps + 1):
        sums = np.maximum(0.0, sums + logs[rng.integers(len(logs), size=num_runs)] - slack)
        passed = (sums > threshold).any(axis=1) & ~alarmed
        lengths[passed] = step
        alarmed |= passed
        if alarmed.all():
            break
    return lengths, alarmed
