"""What a repair would gain, foretold from a profile: Amdahl's law over the parts of a step.

Amdahl (1967): what is made faster speeds up the whole only by its share of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labkit.errors import UsageError
from labkit.measure.training_profile import DEVICE_PARTS, TrainingProfile
from labkit.stats import median_interval

__all__ = ["Gain", "gain_of_faster_device", "gains", "predict_gain", "speedup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How many times as fast the step would be ("×"): the median over the profiled steps, and its interval."""

    name: str
    value: float
    low: float
    high: float


def speedup(parts_s: Mapping[str, float], factors: Mapping[str, float]) -> float:
    """The whole's gain once each named part is ``factor`` times as fast; math.inf removes it.

    UsageError: a part that is not there, a factor that is not above 0, or nothing left to take any time.
    """
    for name, factor in factors.items():
        if name not in parts_s:
            raise UsageError(f"The parts are {', '.join(parts_s)}; got {name!r}.")
        if not factor > 0:  # also true of nan
            raise UsageError(f"A part becomes so many times as fast, above 0; got {factor} for {name}.")
    after_s = sum(seconds / factors.get(name, 1.0) for name, seconds in parts_s.items())
    if not after_s > 0:
        raise UsageError(f"Nothing of the step would be left without {', '.join(factors)}.")
    return sum(parts_s.values()) / after_s


def predict_gain(profile: TrainingProfile, factors: Mapping[str, float], *, name: str = "") -> Gain:
    """`speedup` of every profiled step: the median, and the interval of it."""
    steps = [dict(zip(profile.parts_s, times, strict=True)) for times in zip(*profile.parts_s.values(), strict=True)]
    samples = [speedup(parts_s, factors) for parts_s in steps]
    interval = median_interval(samples)
    told = name or " and ".join(_told(part, factor) for part, factor in factors.items())
    return Gain(name=told, value=float(np.median(samples)), low=interval.low, high=interval.high)


def gain_of_faster_device(profile: TrainingProfile, factor: float) -> Gain:
    """A device ``factor`` times as fast (or so many, sharing the batch for free): the most that buying it can give."""
    told = "an infinitely fast device" if math.isinf(factor) else f"a device {factor:.3g}× as fast"
    return predict_gain(profile, dict.fromkeys(DEVICE_PARTS, factor), name=told)


def gains(profile: TrainingProfile) -> tuple[Gain, ...]:
    """What the job would gain without each part, one at a time: the largest gain first."""
    found = [predict_gain(profile, {part: math.inf}) for part in profile.parts_s]
    return tuple(sorted(found, key=lambda gain: -gain.value))


def _told(part: str, factor: float) -> str:
    return f"without {part}" if math.isinf(factor) else f"{part} {factor:.3g}× as fast"
