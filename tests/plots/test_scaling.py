"""The pictures of scaling: what they say, and what they refuse."""

from __future__ import annotations

import pytest

from labkit import plots
from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.parallel.scaling import Predicted


def share(value: float) -> Measured:
    return Measured.from_samples("", [value - 0.05, value, value + 0.05], "")


def test_efficiency_says_what_the_last_device_keeps_and_marks_the_kinds() -> None:
    foretold = Predicted(num_devices=4, efficiency=0.4, low=0.3, high=0.5)
    curves = {"own cores": {1: 1.0, 2: 0.8, 4: 0.7}}
    picture = plots.plot_efficiency({2: share(0.8), 4: share(0.45)}, curves=curves, predicted=foretold, budget=0.8)
    assert "4 devices keep 45%" in picture.alt_text
    labels = [text.get_text() for text in picture.axes[0].get_legend().get_texts()]
    assert labels == ["◇ own cores", "● measured", "◇ predicted for 4"]
    assert (picture.axes[0].get_xlabel(), picture.axes[0].get_ylabel()) == ("devices", "efficiency (%)")
    assert [text.get_text() for text in picture.axes[0].texts] == ["budget 80%"]


def test_time_to_train_says_both_the_gain_and_its_price() -> None:
    picture = plots.plot_time_to_train({8: 100.0, 64: 20.0}, {8: 800.0, 64: 1280.0})
    assert "8× the devices: done 5× sooner, for 1.6× the device-hours" in picture.alt_text


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="needs a measured efficiency"):
        plots.plot_efficiency({})
    with pytest.raises(UsageError, match="same numbers of devices"):
        plots.plot_time_to_train({8: 1.0}, {})
