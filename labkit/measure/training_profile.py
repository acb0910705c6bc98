"""Where the steps of a training job went, part by part, and how much of its device they used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import NotMeasurableError, UsageError
from labkit.measure.figures import Measured, Quoted
from labkit.measure.timeline import Span, Timeline
from labkit.measure.training_job import PARTS

if TYPE_CHECKING:
    import pandas

__all__ = ["DEVICE_PARTS", "TrainingProfile"]

DEVICE_PARTS = ("forward", "backward", "optimizer")  # what a faster device would shorten


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProfile:
    """Seconds a step by part; the parts of each step add up to it.

    step_s: steps with the stopwatch in them; plain_s: steps of the same job without, taken in turns; cpu_s: processor
    time of the whole process in the plain ones. flops: computed in one step. peak: FLOP/s of what was allocated.
    """

    name: str
    parts_s: Mapping[str, tuple[float, ...]]
    step_s: tuple[float, ...]
    plain_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    flops: int
    peak: Measured | Quoted | None
    device: str
    num_threads: int
    machine: str
    rank: int = 0
    world_size: int = 1
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.step_s), *(len(seconds) for seconds in self.parts_s.values())}
        if tuple(self.parts_s) != PARTS or lengths != {len(self.plain_s)} or not self.plain_s:
            raise UsageError(
                f"A training profile has the parts {', '.join(PARTS)}, a time of each for every step; got "
                f"{', '.join(self.parts_s) or 'no part'}, with {sorted(lengths)} times for {len(self.plain_s)} steps."
            )

    @property
    def steps(self) -> int:
        return len(self.step_s)

    @property
    def step(self) -> Measured:
        """Seconds of a step that nobody watches."""
        return self._figure("step", self.plain_s, "s")

    @property
    def disturbance(self) -> Measured:
        """A step with the stopwatch in it ÷ the one without beside it: 1 where measuring changes nothing."""
        return self._figure("step with the stopwatch ÷ without", np.divide(self.step_s, self.plain_s), "×")

    def part(self, name: str) -> Measured:
        """Seconds of one part a step."""
        return self._figure(name, self._seconds(name), "s")

    def share(self, *names: str) -> Measured:
        """The share of a step, 0 to 1, that the named parts take together."""
        together = np.sum([self._seconds(name) for name in names], axis=0)
        return self._figure(" + ".join(names), together / np.asarray(self.step_s), "")

    @property
    def bottleneck(self) -> str:
        """The part that takes most, over all steps."""
        return max(self.parts_s, key=lambda name: sum(self.parts_s[name]))

    @property
    def busy(self) -> Measured:
        """The share of its allocated time in which the device has work of the model's."""
        return self.share(*DEVICE_PARTS)

    @property
    def occupied(self) -> Measured:
        """What a system's monitor shows: processor time over the threads that were allocated; on a GPU, `busy`."""
        if self.device != "cpu":
            return self.busy
        allocated_s = np.asarray(self.plain_s) * self.num_threads
        return self._figure("busy by the system's monitor", np.asarray(self.cpu_s) / allocated_s, "")

    @property
    def utilisation(self) -> Measured:
        """Computed ÷ peak, over the whole step: the share of what was allocated, and paid, that did the job's work.

        NotMeasurableError where the profile was taken without a peak, or nothing of the step can be counted.
        """
        if self.peak is None or not self.flops:
            lacks = "a peak" if self.peak is None else "FLOPs that torch can count"
            raise NotMeasurableError(f"Utilisation is computed ÷ peak; this profile was taken without {lacks}.")
        reached = self.step.rate(self.flops, "FLOP/s", name="computed")
        if isinstance(self.peak, Measured):
            of_peak = reached.over(self.peak, name="computed ÷ peak")
            return of_peak.scaled(1.0, "")
        return reached.scaled(1 / self.peak.value, "", name="computed ÷ peak")

    def table(self) -> pandas.DataFrame:
        """A row a part: part, seconds (median), share of the step."""
        import pandas

        rows = [
            {"part": name, "seconds": self.part(name).value, "share": self.share(name).value} for name in self.parts_s
        ]
        return pandas.DataFrame(rows)

    def timeline(self, title: str = "", *, steps: int | None = None) -> Timeline:
        """The steps with the stopwatch, or the first so many, as spans of one lane, "rank 0", by this process's clock.

        A gap is steps without it: the first two watched ones follow each other, and so do each two after them.
        """
        numbers = list(dict.fromkeys(span.args["step"] for span in self.spans))[:steps]
        return Timeline(spans=tuple(span for span in self.spans if span.args["step"] in numbers), title=title)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the records, without the spans."""
        kept = ("name", "step_s", "plain_s", "cpu_s", "flops", "device", "num_threads", "machine", "rank", "world_size")
        told: dict[str, Any] = {key: getattr(self, key) for key in kept}
        peak = None if self.peak is None else self.peak.to_dict()
        return told | {"parts_s": dict(self.parts_s), "peak": peak, "bottleneck": self.bottleneck}

    def _seconds(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        if name not in self.parts_s:
            raise UsageError(f"A step's parts are {', '.join(self.parts_s)}; got {name!r}.")
        return np.asarray(self.parts_s[name])

    def _figure(self, name: str, samples: Any, unit: str) -> Measured:
        return Measured.from_samples(name, samples, unit, machine=self.machine)
