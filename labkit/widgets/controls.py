"""What a reader may turn: descriptions of controls, and the widgets built from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labkit.errors import UsageError
from labkit.widgets.inputs import ChoiceView, SliderView

__all__ = ["Choice", "Control", "Slider", "build_control", "extremes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slider:
    """A number from ``min`` to ``max``: an int where min, max, value and step all are.

    With ``log`` (both ends > 0) the handle moves by factors, and ``step`` is in decades: 0.1 makes ten stops a decade.
    Where no step is given it is that, 1 between whole numbers, or a hundredth of the range.
    """

    min: float
    max: float
    value: float
    step: float | None = None
    label: str = ""
    unit: str = ""
    log: bool = False

    def __post_init__(self) -> None:
        if not self.min < self.max:
            raise UsageError(f"A Slider needs min < max; got min={self.min:g}, max={self.max:g}.")
        if not self.min <= self.value <= self.max:
            raise UsageError(f"A Slider's value must lie between {self.min:g} and {self.max:g}; got {self.value:g}.")
        if self.stops <= 0:
            raise UsageError(f"A Slider's step must be above 0; got {self.stops:g}.")
        if self.log and self.min <= 0:
            raise UsageError(f"A Slider with log=True needs min > 0; got {self.min:g}.")

    @property
    def stops(self) -> float:
        """The distance between two stops: in decades with ``log``."""
        if self.step is not None:
            return self.step
        if self.log:
            return 0.1
        whole = all(float(number).is_integer() for number in (self.min, self.max, self.value))
        return 1.0 if whole else (self.max - self.min) / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of ``options``; the first is the default."""

    options: tuple[Any, ...]
    value: Any = None
    label: str = ""

    def __post_init__(self) -> None:
        if not self.options:
            raise UsageError("A Choice needs at least one option; got none.")
        if self.value is not None and self.value not in self.options:
            raise UsageError(f"A Choice's value must be one of {list(self.options)}; got {self.value!r}.")


Control = Slider | Choice


def build_control(name: str, control: Control) -> Any:
    """The widget of a control, with its label, its hint and its unit."""
    label = control.label or name.replace("_", " ")
    if isinstance(control, Choice):
        chosen = control.options[0] if control.value is None else control.value
        hint = f"{label}: one of {', '.join(str(option) for option in control.options)}"
        return ChoiceView(label=label, hint=hint, options=control.options, value=chosen)
    return SliderView(
        label=label,
        hint=f"{label}, from {control.min:g} to {control.max:g} {control.unit}".strip(),
        low=control.min,
        high=control.max,
        step=control.stops,
        value=control.value,
        unit=control.unit,
        log=control.log,
    )


def extremes(control: Control) -> tuple[Any, ...]:
    """The values that a sweep must try besides the default: both ends, or every option."""
    if isinstance(control, Choice):
        return control.options
    return (control.min, control.max)
