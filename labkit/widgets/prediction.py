"""A guess before the measurement: a form where someone sits, the recorded default where nobody does."""

from __future__ import annotations

import contextlib
import math
from html import escape
from typing import Any, Literal, Protocol

import ipywidgets

from labkit.errors import UsageError
from labkit.measure import Figure
from labkit.plots.figures import range_text
from labkit.plots.style import axis_scale
from labkit.records import Prediction, Score
from labkit.widgets.headless import error_html, is_headless, record_failure

__all__ = ["PredictionForm", "predict"]

_FIELD: dict[str, Any] = {"layout": {"width": "260px"}, "style": {"description_width": "120px"}}


class _Run(Protocol):
    def predict(self, prediction: Prediction) -> object: ...
    def score(self, prediction_id: str, figure: Figure) -> Score: ...


def predict(
    run: _Run, id: str, question: str, unit: str, default: tuple[float, float], *, hint: str = ""
) -> PredictionForm:
    """Ask for a range that holds the answer four times in five; ``default``, ``low`` and ``high`` are in ``unit``.

    Without a front end the default is recorded at once. With one, whoever goes on without betting is not held up:
    ``form.score(figure)`` (or ``ensure()``) records what stands in the form.
    """
    return PredictionForm(run, id, question, unit, default, hint=hint)


class PredictionForm(ipywidgets.VBox):  # type: ignore[misc]
    """Two fields and a button. Once ``made``, the prediction is recorded and ``low`` and ``high`` are fixed."""

    def __init__(
        self, run: _Run, id: str, question: str, unit: str, default: tuple[float, float], *, hint: str = ""
    ) -> None:
        low, high = default
        _check(low, high, unit)
        self._run, self.id, self.question, self.unit = run, id, question, unit
        self._default = (float(low), float(high))
        self._prediction: Prediction | None = None
        # Fields show 80 GFLOP/s, not 80000000000: the prefix is that of the range's upper end.
        self._scale, self._shown_unit = axis_scale([high], unit)
        tooltip = f"in {self._shown_unit or 'plain numbers'}"
        shown = f" ({self._shown_unit})" if self._shown_unit else ""
        self.low_field = ipywidgets.FloatText(
            value=self._round(low),
            description=f"at least{shown}",
            tooltip=f"Lower end of your range, {tooltip}",
            **_FIELD,
        )
        self.high_field = ipywidgets.FloatText(
            value=self._round(high),
            description=f"at most{shown}",
            tooltip=f"Upper end of your range, {tooltip}",
            **_FIELD,
        )
        self.button = ipywidgets.Button(
            description="I would bet on this",
            icon="check",
            button_style="primary",
            tooltip="Record this range as your prediction",
            layout={"width": "190px"},
        )
        self._status = ipywidgets.HTML()
        ask = f'<div style="line-height:1.5"><strong>Predict.</strong> {escape(question)}'
        ask += f'<br><span style="opacity:.75">{escape(hint)}</span></div>' if hint else "</div>"
        super().__init__(
            [
                ipywidgets.HTML(ask),
                ipywidgets.HBox([self.low_field, self.high_field, self.button], layout={"flex_flow": "row wrap"}),
                self._status,
            ]
        )
        self.add_class("labkit-predict")
        self._say_range()
        for field in (self.low_field, self.high_field):
            field.observe(self._say_range, names="value")
        self.button.on_click(self._on_click)
        if is_headless():
            self.ensure()

    @property
    def low(self) -> float:
        """Lower end, in ``unit``."""
        return self._prediction.low if self._prediction else self._field(0)

    @property
    def high(self) -> float:
        """Upper end, in ``unit``."""
        return self._prediction.high if self._prediction else self._field(1)

    @property
    def made(self) -> bool:
        """Whether it is recorded, and so can no longer be changed."""
        return self._prediction is not None

    def value(self) -> Prediction:
        """The recorded prediction; records what stands in the form if nothing was."""
        return self.ensure()

    def ensure(self) -> Prediction:
        """Record now, unless it is recorded: the default, or the learner's own numbers where they changed them."""
        if self._prediction is None:
            touched = (self.low, self.high) != self._default
            if touched and not self.low < self.high:  # half-typed numbers are nobody's bet
                self._record(*self._default, "default")
            else:
                self._record(self.low, self.high, "learner" if touched else "default")
        assert self._prediction is not None
        return self._prediction

    def score(self, figure: Figure) -> Score:
        """Record if need be, then hold the prediction against the measured figure."""
        # The cell of the form may be run again after the score; then the first guess stands, and the run knows it.
        with contextlib.suppress(UsageError):
            self.ensure()
        score = self._run.score(self.id, figure)
        self._lock(score.prediction)
        return score

    def bet(self) -> Prediction:
        """What the button does: record the fields as the learner's own. Raises UsageError on a range that is none."""
        if self._prediction is None:
            _check(self.low, self.high, self.unit)
            self._record(self.low, self.high, "learner")
        assert self._prediction is not None
        return self._prediction

    def _record(self, low: float, high: float, source: Literal["learner", "default"]) -> None:
        prediction = Prediction(id=self.id, question=self.question, unit=self.unit, low=low, high=high, source=source)
        self._run.predict(prediction)
        self._lock(prediction)

    def _lock(self, prediction: Prediction) -> None:
        self._prediction = prediction
        for widget in (self.low_field, self.high_field, self.button):
            widget.disabled = True
        self.button.description = "Recorded"
        who = "Your bet" if prediction.source == "learner" else "Nobody bet, so the default"
        self._status.value = (
            f'<div role="status">✓ {who} is recorded: {escape(self._range())}. Go on and measure.</div>'
        )

    def _on_click(self, _button: object) -> None:
        try:
            self.bet()
        except UsageError as error:
            self._status.value = error_html(error, where="your prediction")
        except Exception as error:
            record_failure("predict", error, where=self.id, values=(self.low, self.high))
            self._status.value = error_html(error, where=f"the prediction {self.id}")

    def _field(self, end: int) -> float:
        shown = (self.low_field, self.high_field)[end].value
        # An untouched field means the default itself, not its rounded picture.
        return self._default[end] if shown == self._round(self._default[end]) else shown * self._scale

    def _round(self, value: float) -> float:
        return float(f"{value / self._scale:.6g}")

    def _range(self) -> str:
        return range_text(self.low, self.high, self.unit)

    def _say_range(self, _change: object = None) -> None:
        if self.low < self.high:
            wide = f", a factor of {self.high / self.low:.3g}" if self.low > 0 else ""
            self._status.value = (
                f'<div style="opacity:.75">I am 80 % sure that it is {escape(self._range())}{wide}.</div>'
            )

    def __repr__(self) -> str:
        state = f"recorded ({self._prediction.source})" if self._prediction else "open"
        return f"Prediction {self.id}, {state}: {self.question} {self._range()}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {} if is_headless() else dict(super()._repr_mimebundle_(**kwargs) or {})
        return {**bundle, "text/plain": repr(self)}


def _check(low: float, high: float, unit: str) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        came = range_text(low, high, unit)
        raise UsageError(f"A range goes from a smaller to a larger number; got {came}. Change one of the two.")
