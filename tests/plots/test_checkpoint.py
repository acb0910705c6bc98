"""Checkpoints in pictures: what is drawn is what came, and nothing is refused in words."""

from __future__ import annotations

import pytest

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots import plot_cadence, plot_kills, plot_stalls


def test_stalls_say_each_way() -> None:
    times = {
        name: Measured(name=name, value=v, low=v / 2, high=2 * v, unit="s", n=5)
        for name, v in (("synchronous", 0.4), ("asynchronous", 0.02))
    }
    figure = plot_stalls(times, title="Found")
    assert figure.description == "synchronous: 400 ms; asynchronous: 20 ms"
    assert len(figure.axes[0].patches) == 2
    assert figure.axes[0].get_xlabel() == "time (ms)"


def test_kills_say_where() -> None:
    figure = plot_kills({"writing": 3, "pruning": 1}, title="Found")
    assert figure.description == "Kills: 1 while pruning, 3 while writing"


def test_cadence_names_its_maximum_and_marks() -> None:
    curve = {10.0: 0.5, 100.0: 0.9, 1000.0: 0.6}
    figure = plot_cadence(curve, marks={"exact": (100.0, 0.9)}, simulated={100.0: [0.88, 0.91]})
    assert "90.0%" in figure.axes[0].get_title(loc="left")
    assert "exact at 100 s: 90.00%" in figure.description
    assert next(text.get_text() for text in figure.axes[0].get_legend().get_texts()) == "◇ closed form"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_stalls({}, title=""),
        lambda: plot_kills({}, title=""),
        lambda: plot_cadence({}, marks={}),
    ],
)
def test_nothing_is_refused(draw) -> None:
    with pytest.raises(UsageError, match="got no"):
        draw()
