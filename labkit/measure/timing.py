"""Timing that warms up, waits for the device, repeats, and compares only in turns (A B A B) within one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import UsageError
from labkit.hardware import machine as this_machine
from labkit.measure.figures import Measured
from labkit.measure.progress import OnProgress

__all__ = ["alternate", "compare", "difference", "noise_floor", "repeat"]

Step = Callable[[], object]
Clock = Callable[[], float]


def _wait_for_device() -> Callable[[], object]:
    """What makes queued work finish: torch's synchronize where a GPU is attached, else nothing."""
    if this_machine().device != "cuda":
        return lambda: None
    import torch

    return torch.cuda.synchronize


def _once(step: Step, synchronize: Step, clock: Clock) -> float:
    synchronize()  # what is still queued must not be charged to this step
    started = clock()
    step()
    synchronize()
    return clock() - started


def repeat(
    fn: Step,
    *,
    name: str = "",
    repeats: int = 7,
    warmup: int = 2,
    synchronize: Step | None = None,
    clock: Clock = time.perf_counter,
    machine: str | None = None,
    on_progress: OnProgress | None = None,
) -> Measured:
    """Seconds that one call of ``fn`` takes: the median of ``repeats``, after ``warmup`` calls that do not count."""
    if repeats < 1 or warmup < 0:
        raise UsageError(f"repeats must be at least 1 and warmup at least 0; got {repeats} and {warmup}.")
    samples = alternate(
        {name: fn}, rounds=repeats, warmup=warmup, synchronize=synchronize, clock=clock, on_progress=on_progress
    )[name]
    where = this_machine().id if machine is None else machine
    return Measured.from_samples(name, samples, "s", machine=where, warmup=warmup)


def alternate(
    steps: Mapping[str, Step],
    *,
    rounds: int,
    warmup: int = 2,
    synchronize: Step | None = None,
    clock: Clock = time.perf_counter,
    on_progress: OnProgress | None = None,
) -> dict[str, tuple[float, ...]]:
    """Seconds of each step, taken in turns, so that a machine that drifts treats all alike. Every other round goes
    backwards (A B, B A, …), so that none always follows the same neighbour."""
    if rounds < 1 or not steps or warmup < 0:
        came = f"{len(steps)}, {rounds} and warmup = {warmup}"
        raise UsageError(f"At least one step, one round and no negative warm-up are needed; got {came}.")
    synchronize = synchronize or _wait_for_device()
    for step in steps.values():
        for _ in range(warmup):
            step()
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds):
        if on_progress:
            on_progress(index / rounds, f"round {index + 1} of {rounds}")
        order = list(steps) if index % 2 == 0 else list(steps)[::-1]
        for name in order:
            samples[name].append(_once(steps[name], synchronize, clock))
    if on_progress:
        on_progress(1.0, f"{rounds} rounds")
    return {name: tuple(values) for name, values in samples.items()}


def compare(
    a: Step,
    b: Step,
    *,
    name: str = "",
    rounds: int = 15,
    warmup: int = 2,
    synchronize: Step | None = None,
    clock: Clock = time.perf_counter,
    machine: str | None = None,
    on_progress: OnProgress | None = None,
) -> Measured:
    """How many times as long ``a`` takes as ``b`` ("×"): the median over rounds of the ratio within each round."""
    times = alternate(
        {"a": a, "b": b}, rounds=rounds, warmup=warmup, synchronize=synchronize, clock=clock, on_progress=on_progress
    )
    ratios = np.asarray(times["a"]) / _seen_by_clock(times["b"])
    where = this_machine().id if machine is None else machine
    return Measured.from_samples(name, ratios, "×", machine=where, warmup=warmup)


def difference(
    a: Sequence[float], b: Sequence[float], *, name: str = "difference", machine: str | None = None
) -> Measured:
    """How far apart a[i] and b[i], timed side by side, lie: |a - b| over their mean, in percent."""
    if len(a) != len(b) or not len(a):
        raise UsageError(f"Times are paired by round; got {len(a)} and {len(b)} of them.")
    first, second = np.asarray(a), np.asarray(b)
    where = this_machine().id if machine is None else machine
    percent = 200 * np.abs(first - second) / _seen_by_clock(first + second)
    return Measured.from_samples(name, percent, "%", machine=where)


def _seen_by_clock(times_s: ArrayLike) -> NDArray[np.float64]:
    """Times to divide by: none may be zero."""
    times = np.asarray(times_s, dtype=np.float64)
    if not (times > 0).all():
        raise UsageError(
            f"The clock saw no time pass in a step ({times.min()} s). Let each step do its work many times."
        )
    return times


def noise_floor(
    fn: Step,
    *,
    name: str = "noise floor",
    rounds: int = 15,
    warmup: int = 2,
    synchronize: Step | None = None,
    clock: Clock = time.perf_counter,
    machine: str | None = None,
    on_progress: OnProgress | None = None,
) -> Measured:
    """A step compared with itself (A/A): the `difference` that means nothing on this machine, in percent."""
    times = alternate(
        {"first": fn, "second": fn},
        rounds=rounds,
        warmup=warmup,
        synchronize=synchronize,
        clock=clock,
        on_progress=on_progress,
    )
    return difference(times["first"], times["second"], name=name, machine=machine)
