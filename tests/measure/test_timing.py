"""Timing against a clock and a device whose truth is known."""

from __future__ import annotations

import pytest

from labkit.errors import UsageError
from labkit.measure import alternate, compare, difference, noise_floor, repeat


class Device:
    """Work is queued by `step` and done at `synchronize`; the first calls are slow, later ones drift."""

    def __init__(self, step_s: float, *, slow_first: int = 0, drift: float = 0.0) -> None:
        self.now, self.queued = 0.0, 0.0
        self.step_s, self.slow_first, self.drift = step_s, slow_first, drift
        self.calls = 0

    def step(self, factor: float = 1.0) -> None:
        self.calls += 1
        slow = 100 if self.calls <= self.slow_first else 1
        self.now += 1e-6  # taking the order
        self.queued += factor * self.step_s * slow * (1 + self.drift * self.calls)

    def synchronize(self) -> None:
        self.now += self.queued
        self.queued = 0.0

    def clock(self) -> float:
        return self.now


def test_repeat_waits_for_the_device_and_forgets_the_warmup() -> None:
    device = Device(0.01, slow_first=2)
    figure = repeat(
        device.step, name="step", repeats=7, synchronize=device.synchronize, clock=device.clock, machine="m"
    )
    assert figure.value == pytest.approx(0.010001)
    assert (figure.n, figure.warmup, figure.machine, figure.unit) == (7, 2, "m", "s")
    assert figure.high == pytest.approx(figure.low)
    assert device.calls == 9


def test_compare_in_turns_is_not_moved_by_drift() -> None:
    device = Device(0.01, drift=0.05)  # each call is slower than the last: after 40 calls, three times as slow
    ratio = compare(
        lambda: device.step(2.0),
        device.step,
        rounds=20,
        synchronize=device.synchronize,
        clock=device.clock,
        machine="m",
    )
    assert ratio.value == pytest.approx(2.0, rel=0.02)
    assert ratio.unit == "×"


def test_a_step_against_itself_covers_one_and_its_noise_is_the_difference() -> None:
    device = Device(0.01)
    same = compare(device.step, device.step, synchronize=device.synchronize, clock=device.clock, machine="m")
    assert same.low <= 1 <= same.high
    floor = noise_floor(device.step, synchronize=device.synchronize, clock=device.clock, machine="m")
    assert floor.value == pytest.approx(0, abs=1e-6)
    drifting = Device(0.01, drift=0.1)
    moved = noise_floor(drifting.step, rounds=5, synchronize=drifting.synchronize, clock=drifting.clock, machine="m")
    assert 1 < moved.value < 10
    assert moved.unit == "%"


def test_alternate_takes_turns_and_changes_who_goes_first() -> None:
    order: list[str] = []
    steps = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    samples = alternate(steps, rounds=3, warmup=0, synchronize=lambda: None)
    assert "".join(order) == "abbaab"
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3}


def test_progress_reaches_its_end() -> None:
    told: list[float] = []
    repeat(lambda: None, repeats=4, warmup=0, machine="m", on_progress=lambda fraction, _: told.append(fraction))
    assert told == [0, 0.25, 0.5, 0.75, 1.0]


def test_difference_is_over_the_mean_and_paired() -> None:
    found = difference([1.0, 3.0, 2.0], [3.0, 1.0, 2.0], machine="m")
    assert (found.value, found.low, found.high, found.unit) == (100, 0, 100, "%")
    with pytest.raises(UsageError, match="paired by round"):
        difference([1.0], [1.0, 2.0])


@pytest.mark.parametrize("measurement", [lambda f, **k: compare(f, f, **k), noise_floor])
def test_a_step_too_short_for_the_clock_is_no_ratio(measurement) -> None:
    with pytest.raises(UsageError, match="clock saw no time pass"):
        measurement(lambda: None, rounds=3, clock=lambda: 5.0, synchronize=lambda: None, machine="m")


@pytest.mark.parametrize(
    "call",
    [
        lambda: repeat(lambda: None, repeats=0),
        lambda: alternate({}, rounds=1),
        lambda: alternate({"a": lambda: None}, rounds=1, warmup=-1),
    ],
)
def test_bad_input(call) -> None:
    with pytest.raises(UsageError, match=r"(?i)at least"):
        call()


def test_the_real_clock_and_the_real_machine() -> None:
    figure = repeat(lambda: sum(range(1000)), repeats=5)
    assert 0 < figure.low <= figure.value <= figure.high
    assert figure.machine
