"""A request for more devices. It cannot be made without a profile of the job that wants them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from labkit.errors import UsageError
from labkit.measure.amdahl import Gain, gain_of_faster_device, gains
from labkit.measure.figures import Figure, Measured
from labkit.measure.training_profile import DEVICE_PARTS, TrainingProfile
from labkit.units import format_quantity

__all__ = ["MIN_STEPS", "CapacityRequest"]

MIN_STEPS = 5  # below, a profile's intervals are its whole range


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityRequest:
    """Who asks for how many devices, for how long, to become how many times as fast; and the profile it rests on.

    UsageError: no profile, one of fewer than MIN_STEPS steps or without a peak to compare with, no more devices than
    now, no reason, or sizes that make none.
    """

    job: str
    reason: str
    devices_now: int
    devices_asked: int
    hours: float
    wanted_speedup: float
    profile: TrainingProfile

    def __post_init__(self) -> None:
        given: object = self.profile  # whatever its type says
        if not isinstance(given, TrainingProfile):
            came = "none" if given is None else f"a {type(given).__name__}"
            raise UsageError(
                f"A capacity request needs the profile of the job that it is for; got {came}. "
                "Take one with measure.profile_training(job, peak=…)."
            )
        if self.profile.steps < MIN_STEPS:
            came = f"{self.profile.steps} step{'s' if self.profile.steps > 1 else ''}"
            raise UsageError(f"The profile of a capacity request covers at least {MIN_STEPS} steps; got {came}.")
        if self.profile.peak is None:
            raise UsageError("The profile says nothing of utilisation: it was taken without a peak. Give it one.")
        if not (self.job.strip() and self.reason.strip()):
            raise UsageError(f"A capacity request names its job and its reason; got {self.job!r} and {self.reason!r}.")
        if not self.devices_asked > self.devices_now >= 1:
            raise UsageError(
                f"More devices are asked for than there are, at least 1; got {self.devices_now} and then "
                f"{self.devices_asked}."
            )
        if not (0 < self.hours < math.inf and 1 < self.wanted_speedup < math.inf):
            raise UsageError(
                f"hours must be above 0 and wanted_speedup above 1, both finite; got {self.hours} and "
                f"{self.wanted_speedup}."
            )

    @property
    def granted(self) -> Gain:
        """The most that the devices can give: they divide the device's own parts of the step, and talk for nothing."""
        return gain_of_faster_device(self.profile, self.devices_asked / self.devices_now)

    @property
    def repairs(self) -> tuple[Gain, ...]:
        """What the job would gain without each part that no device shortens, the largest first; none below 1 %."""
        device = {f"without {part}" for part in DEVICE_PARTS}
        return tuple(gain for gain in gains(self.profile) if gain.name not in device and gain.value >= 1.01)

    @property
    def objections(self) -> tuple[str, ...]:
        """What speaks against granting it, from the profile alone; none where nothing does."""
        found, granted = [], self.granted
        if granted.high < self.wanted_speedup:
            found.append(
                f"{self.wanted_speedup:.3g}× is wanted, and {self.devices_asked} devices give at most "
                f"{granted.value:.2f}×: they shorten forward, backward and optimizer alone."
            )
        if self.repairs and self.repairs[0].low > granted.high:
            best = self.repairs[0]
            found.append(f"The devices that are there, {best.name}, would be {best.value:.2f}× as fast.")
        return tuple(found)

    @property
    def device_hours(self) -> float:
        return self.devices_asked * self.hours

    def document(self) -> str:
        """The request as Markdown: every figure in it is the profile's, with its interval."""
        parts = "\n".join(
            f"| {name} | {_shown(self.profile.part(name))} | {self.profile.share(name).value:.0%} |"
            for name in self.profile.parts_s
        )
        objections = "\n".join(f"- {text}" for text in self.objections) or "- None from this profile."
        repairs = "\n".join(f"- {gain.name}: {_gain(gain)}" for gain in self.repairs) or "- None above 1 %."
        peak = self.profile.peak
        assert peak is not None
        return f"""# Capacity request: {self.job}

{self.devices_asked} devices instead of {self.devices_now}, for {self.hours:,.4g} h ({self.device_hours:,.4g} device-hours), to become {self.wanted_speedup:.3g}× as fast. {self.reason}

## What the devices do now

Allocated: all of the time. Has work: {_percent(self.profile.busy)}. Computed ÷ peak: {_percent(self.profile.utilisation)}, of {_shown(peak)} ({peak.kind}).

| part of a step | time | share |
|---|---|---|
{parts}

Measured over {self.profile.steps} steps on machine {self.profile.machine}, rank {self.profile.rank} of {self.profile.world_size}; the largest part is {self.profile.bottleneck}.

## What the devices would give

- At most {_gain(self.granted)}, by Amdahl's law.

## What repairs would give without them

{repairs}

## Objections

{objections}
"""  # noqa: E501

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the records."""
        kept = ("job", "reason", "devices_now", "devices_asked", "hours", "wanted_speedup", "objections")
        return {key: getattr(self, key) for key in kept} | {"profile": self.profile.to_dict()}


def _shown(figure: Figure) -> str:
    return format_quantity(figure.value, figure.unit)


def _percent(share: Measured) -> str:
    return f"{share.value:.0%} (measured, {share.low:.0%} to {share.high:.0%}, n = {share.n})"


def _gain(gain: Gain) -> str:
    return f"{gain.value:.2f}× ({gain.low:.2f} to {gain.high:.2f})"
