"""The three kinds of figure. A bare float is never a result: it was measured, simulated or quoted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import UsageError
from labkit.stats import median_interval

__all__ = ["Figure", "Measured", "Quoted", "Simulated", "figure_from_dict"]


class _Figure:
    """What the kinds share: plain data in and out, and values that are numbers."""

    __slots__ = ()
    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, with the kind, for `figure_from_dict`; NumPy's numbers become Python's."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"kind": self.kind} | {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}


def _refuse_nonsense(name: str, value: float, low: float | None, high: float | None) -> None:
    numbers = [value, *(bound for bound in (low, high) if bound is not None)]
    if strange := [number for number in numbers if not isinstance(number, (int, float, np.number))]:
        came = f"got {type(strange[0]).__name__}. Use float(x), or x.item() of a tensor"
        raise UsageError(f"{name or 'A figure'} must be made of real numbers; {came}.")
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"{name or 'A figure'} must be finite; got {value} within {low} to {high}.")
    if low is not None and high is not None and not low <= value <= high:
        raise UsageError(f"{name or 'A figure'} must lie in its interval; got {value}, {low} to {high}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(_Figure):
    """Measured on this machine: the median of n repeats with its interval; warmup: repeats thrown away before."""

    kind: ClassVar[str] = "measured"
    name: str
    value: float
    unit: str
    low: float
    high: float
    n: int
    warmup: int = 0
    machine: str = ""
    coverage: float = 0.95

    def __post_init__(self) -> None:
        if self.n < 1 or self.warmup < 0:
            came = f"n = {self.n} and warmup = {self.warmup}"
            raise UsageError(
                f"{self.name or 'A figure'} needs at least one sample and no negative warm-up; got {came}."
            )
        if not 0 <= self.coverage <= 1:
            raise UsageError(f"{self.name or 'A figure'} needs a coverage between 0 and 1; got {self.coverage}.")
        _refuse_nonsense(self.name, self.value, self.low, self.high)

    @classmethod
    def from_samples(
        cls, name: str, samples: ArrayLike, unit: str, *, machine: str = "", warmup: int = 0, coverage: float = 0.95
    ) -> Measured:
        """The samples' median, with an interval from their order statistics."""
        values = np.asarray(samples, dtype=np.float64).ravel()
        try:
            interval = median_interval(values, coverage)
        except ValueError as error:
            raise UsageError(f"{name or 'A figure'}: {error}") from error
        return cls(
            name=name,
            value=float(np.median(values)),
            unit=unit,
            low=interval.low,
            high=interval.high,
            n=len(values),
            warmup=warmup,
            machine=machine,
            coverage=round(interval.coverage, 4),
        )

    def scaled(self, factor: float, unit: str, *, name: str | None = None) -> Measured:
        """The same measurement in another unit: value, low and high times ``factor`` (which is positive)."""
        if not 0 < factor < math.inf:
            raise UsageError(f"A figure is scaled by a positive factor; got {factor}.")
        return self._with(self.value * factor, self.low * factor, self.high * factor, unit, name)

    def rate(self, amount: float, unit: str, *, name: str | None = None) -> Measured:
        """amount ÷ this time: the slowest repeat gives the lowest rate, so low and high change places."""
        if not (0 < amount < math.inf and self.low > 0):
            raise UsageError(f"A rate needs a positive amount and time; got {amount} in {self.low} {self.unit}.")
        return self._with(amount / self.value, amount / self.high, amount / self.low, unit, name)

    def over(self, other: Measured, *, name: str) -> Measured:
        """This ÷ other, as a ratio ("×") whose interval is the widest that both intervals allow.

        Its coverage is at least 1 minus both chances of a miss (Bonferroni); n is the smaller count.
        """
        if self.low < 0:
            raise UsageError(
                f"A ratio needs a figure above the line that is not negative; got {self.low} at its low end."
            )
        if not other.low > 0:
            raise UsageError(f"A ratio needs a positive figure below the line; got {other.low} to {other.high}.")
        least = self if self.n <= other.n else other
        ends = (self.value / other.value, self.low / other.high, self.high / other.low)
        coverage = max(0.0, round(self.coverage + other.coverage - 1, 4))
        return replace(least._with(*ends, "×", name), machine=self.machine, coverage=coverage)

    def _with(self, value: float, low: float, high: float, unit: str, name: str | None) -> Measured:
        return replace(self, value=value, low=low, high=high, unit=unit, name=self.name if name is None else name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated(_Figure):
    """From a model. calibrated_on: what it was fitted to; error: its relative error on what it had not seen."""

    kind: ClassVar[str] = "simulated"
    name: str
    value: float
    unit: str
    calibrated_on: str
    error: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.error < math.inf and self.calibrated_on.strip()):
            came = f"error {self.error}, calibrated on {self.calibrated_on!r}"
            raise UsageError(f"A simulated figure needs its held-out error and what it was calibrated on; got {came}.")
        _refuse_nonsense(self.name, self.value, self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted(_Figure):
    """Published by somebody else; source says where."""

    kind: ClassVar[str] = "quoted"
    name: str
    value: float
    unit: str
    source: str

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise UsageError(f"A quoted figure needs its source; {self.name or 'this one'} has none.")
        _refuse_nonsense(self.name, self.value, None, None)


Figure = Measured | Simulated | Quoted
_KINDS: Mapping[str, type[Measured] | type[Simulated] | type[Quoted]] = {
    "measured": Measured,
    "simulated": Simulated,
    "quoted": Quoted,
}


def figure_from_dict(data: Mapping[str, Any]) -> Figure:
    """What `to_dict` gave, as the figure that it was."""
    kind = str(data.get("kind"))
    if kind not in _KINDS:
        raise UsageError(f"A figure's kind must be one of {', '.join(_KINDS)}; got {kind!r}.")
    values = {key: value for key, value in data.items() if key != "kind"}
    try:
        return _KINDS[kind](**values)
    except TypeError as error:  # a field too many or too few
        wanted = ", ".join(field.name for field in fields(_KINDS[kind]))
        raise UsageError(f"A {kind} figure has the fields {wanted}; got {', '.join(values) or 'none'}.") from error
