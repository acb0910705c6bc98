"""The inputs and the picture of a panel: native elements whose labels and alternative texts a screen reader finds.

ipywidgets' sliders have no accessible name, its Image no alternative text, and JupyterLab takes the arrow keys from its
Dropdown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.errors import UsageError
from labkit.units import format_quantity

__all__ = ["ChoiceView", "PictureView", "SliderView"]

_FOLDER = Path(__file__).parent


class SliderView(anywidget.AnyWidget):
    """A labelled range input. ``value`` is the number, ``position`` the handle: with ``log`` its decimal logarithm."""

    _esm = _FOLDER / "slider.js"
    _css = _FOLDER / "inputs.css"
    label = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    low = traitlets.Float().tag(sync=True)
    high = traitlets.Float().tag(sync=True)
    step = traitlets.Float(1.0).tag(sync=True)
    position = traitlets.Float().tag(sync=True)
    readout = traitlets.Unicode().tag(sync=True)
    value = traitlets.Any(help="an int where every stop is one, else a float")

    def __init__(
        self,
        *,
        label: str,
        hint: str,
        low: float,
        high: float,
        step: float,
        value: float,
        unit: str = "",
        log: bool = False,
    ) -> None:
        self._ends, self._log, self._unit = (low, high), log, unit
        self._whole = not log and all(float(number).is_integer() for number in (low, high, step, value))
        stops = (math.log10(low), math.log10(high)) if log else (low, high)
        super().__init__(label=label, hint=hint, low=stops[0], high=stops[1], step=step)
        self.value = value

    @traitlets.validate("value")
    def _clamped(self, proposal: dict[str, float]) -> float:
        value = min(self._ends[1], max(self._ends[0], proposal["value"]))
        return round(value) if self._whole else float(value)

    @traitlets.observe("value")
    def _on_value(self, _change: object) -> None:
        number = f"{self.value:,}" if self._whole else format_quantity(self.value)
        self.readout = f"{number} {self._unit}".strip()
        if not math.isclose(self._meant(self.position), self.value, rel_tol=1e-9):
            self.position = math.log10(self.value) if self._log else self.value

    @traitlets.observe("position")
    def _on_position(self, _change: object) -> None:
        if self._meant(self.position) != self.value:
            self.value = self._meant(self.position)

    def _meant(self, position: float) -> float:
        """The value that a handle's position means, rounded to what a reader can tell apart."""
        if not self._log:
            return position
        # The ends themselves come back exactly: 10 ** log10(x) need not be x.
        for end in self._ends:
            if math.isclose(position, math.log10(end), rel_tol=0, abs_tol=1e-9):
                return end
        return float(f"{10**position:.4g}")


class ChoiceView(anywidget.AnyWidget):
    """A labelled select. ``value`` is the option itself, ``index`` its place."""

    _esm = _FOLDER / "choice.js"
    _css = _FOLDER / "inputs.css"
    label = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    value = traitlets.Any()

    def __init__(self, *, label: str, hint: str, options: Sequence[Any], value: Any) -> None:
        self.options = tuple(options)
        super().__init__(label=label, hint=hint, names=[str(option) for option in options])
        self.value = value

    @traitlets.validate("value")
    def _known(self, proposal: dict[str, Any]) -> Any:
        if proposal["value"] not in self.options:
            raise UsageError(f"{self.label} must be one of {list(self.options)}; got {proposal['value']!r}.")
        return proposal["value"]

    @traitlets.observe("value")
    def _on_value(self, _change: object) -> None:
        self.index = self.options.index(self.value)

    @traitlets.observe("index")
    def _on_index(self, _change: object) -> None:
        self.value = self.options[self.index]


class PictureView(anywidget.AnyWidget):
    """A PNG, replaced in place, with the words that say the same."""

    _esm = _FOLDER / "picture.js"
    png = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
