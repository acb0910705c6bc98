"""The monitors' pictures: what is drawn is what came, each can be read without colour, nothing to draw is refused."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.monitors import Outcome, Score
from labkit.plots import picture_png, plot_delays, plot_slowest, plot_sums, plot_trade_off


def title_of(figure: object) -> str:
    return figure.axes[0].get_title(loc="left").replace("\n", " ")  # type: ignore[attr-defined]


def test_sums_their_threshold_and_the_fault() -> None:
    figure = plot_sums({"rank 0": [0, 0, 0], "rank 1": [0, 1, 3]}, threshold=2.0, fault_step=1, alert_step=2)
    (axes,) = figure.axes
    assert title_of(figure) == "Alert in step 2, 1 after the fault"
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [[0, 0, 0], [0, 1, 3]]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    assert "rank 1 3" in figure.description
    assert picture_png(figure).startswith(b"\x89PNG")
    assert title_of(plot_sums({"a": [0.0]}, threshold=1.0)) == "No sum passes its threshold"


def test_every_delay_is_a_mark_and_every_row_says_how_many() -> None:
    found = [Outcome(fault_step=5, found_step=5 + delay) for delay in (0, 3, 3)]
    scores = {
        "slow": Score(name="slow", outcomes=(*found, Outcome(fault_step=5, found_step=None))),
        "healthy": Score(name="healthy", outcomes=(Outcome(fault_step=None, found_step=None),)),
    }
    figure = plot_delays(scores)
    (axes,) = figure.axes
    assert title_of(figure) == "3 of 4 faults found; latest: slow"
    marks = [x for line in axes.lines if line.get_marker() == "o" for x in line.get_xdata()]
    assert sorted(marks) == [0, 3, 3]
    assert [text.get_text() for text in axes.texts] == ["3 of 4"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["slow"]
    assert "3 of 4, median delay 3 steps" in figure.description


def test_the_slowest_and_the_trade_off() -> None:
    point = Measured(name="", value=1.1, unit="×", low=1.0, high=1.2, n=5)
    figure = plot_slowest({2: point}, {"jitter 5 %": {1: 1.0, 2: 1.03, 4: 1.06}}, title="Waiting")
    assert list(figure.axes[0].lines[0].get_ydata()) == [1.0, 1.03, 1.06]
    assert "jitter 5 %" in figure.description
    delays, between = {"drawn": [2.0, 4.0]}, {"drawn": [10.0, 1000.0]}
    figure = plot_trade_off(delays, between, title="Cost", chosen=(1000.0, 4.0))
    assert np.array_equal(figure.axes[0].lines[0].get_xdata(), [10.0, 1000.0])
    assert "4.0 at 1000" in figure.description


def test_nothing_to_draw() -> None:
    for call in (
        lambda: plot_sums({}, threshold=1.0),
        lambda: plot_delays({}),
        lambda: plot_slowest({}, {}, title=""),
        lambda: plot_trade_off({}, {}, title=""),
    ):
        with pytest.raises(UsageError, match="needs"):
            call()
