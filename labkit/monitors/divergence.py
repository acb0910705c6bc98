"""A loss, or a gradient's norm, that stops being a number or leaves the range that it has been in."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import UsageError
from labkit.monitors.alert import Alert
from labkit.monitors.cusum import Cusum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["DivergenceMonitor", "find_non_finite"]

_NORMAL = 1.4826  # median absolute deviation of normal values -> their standard deviation


class DivergenceMonitor:
    """One number a step. Its distance from the trailing median, in robust standard deviations, is summed up by `Cusum`.

    A falling loss never alerts; one wild value counts for ``clip`` deviations at most. The window is not fed while the
    sum is above half of its threshold, or a slow divergence would become what is normal.
    """

    def __init__(self, name: str, *, threshold: float, window: int = 20, slack: float = 1.5, clip: float = 6.0) -> None:
        if window < 5:
            raise UsageError(f"What is normal needs a window of at least 5 steps; got {window}.")
        self.name = name
        self.sum = Cusum(threshold=threshold, slack=slack, clip=clip)
        self._window: deque[float] = deque(maxlen=window)
        self._failed = False

    @property
    def peak(self) -> float:
        """The largest that the sum has been."""
        return self.sum.peak

    def update(self, step: int, value: float) -> list[Alert]:
        """The alerts of this step. A value that is no number alerts at once, and again only after it was one."""
        if not math.isfinite(value):
            first, self._failed = not self._failed, True
            told = f"the {self.name} is {value}"
            evidence = {"value": str(value), "last": self._window[-1] if self._window else None}
            alert = Alert(monitor="non-finite", step=step, where=self.name, message=told, evidence=evidence)
            return [alert] if first else []
        self._failed = False
        if len(self._window) < (self._window.maxlen or 0):
            self._window.append(value)
            return []
        past = np.asarray(self._window)
        middle = float(np.median(past))
        deviation = _NORMAL * float(np.median(np.abs(past - middle)))
        score = (value - middle) / max(deviation, 1e-3 * abs(middle), 1e-12)  # a constant has no deviation of its own
        alerted = self.sum.add(score)
        if self.sum.value <= self.sum.threshold / 2:
            self._window.append(value)
        if not alerted:
            return []
        told = f"{self.name} {value:.4g}, after {middle:.4g} ± {deviation:.2g} over {len(past)} steps"
        evidence = {
            "value": value, "median": middle, "deviation": deviation,
            "sum": self.sum.value, "threshold": self.sum.threshold,
        }  # fmt: skip
        return [Alert(monitor="divergence", step=step, where=self.name, message=told, evidence=evidence)]


def find_non_finite(step: int, tensors: Mapping[str, Tensor], *, where: str = "") -> list[Alert]:
    """One alert for each tensor with an element that is not finite: its name, how many, and where the first lies.

    Looked at before gradients are summed over ranks: after, every rank has the NaN and none is to blame. One sum a
    tensor is enough, since NaN and infinity survive it: the elements are searched only where it is not finite.
    """
    alerts = []
    for name, tensor in tensors.items():
        if math.isfinite(float(tensor.detach().sum())) or bool(tensor.isfinite().all()):
            continue  # a sum of finite numbers may overflow; then the elements decide
        bad = (~tensor.isfinite()).nonzero()  # (count, dims)
        first: list[Any] = bad[0].tolist()
        told = f"{len(bad)} of {tensor.numel():,} elements of {name} not finite, the first at {first}"
        evidence = {"count": len(bad), "first": first, "value": str(float(tensor[tuple(first)]))}
        place = where or name
        alerts.append(Alert(monitor="non-finite", step=step, where=place, message=told, evidence=evidence))
    return alerts
