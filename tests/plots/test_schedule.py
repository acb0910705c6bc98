"""The pictures of pipelines: what they say, that nothing needs colour, and what they refuse."""

from __future__ import annotations

import pytest
from matplotlib.collections import PathCollection

from labkit import plots
from labkit.errors import UsageError
from labkit.measure import Measured, Timeline
from labkit.parallel.schedule_timeline import simulate
from labkit.parallel.schedules import make_schedule


def test_schedules_share_an_axis_and_say_their_bubble() -> None:
    timelines = {name: simulate(make_schedule(name, 3, 4)) for name in ("GPipe", "ZB-H1")}
    picture = plots.plot_schedules(timelines, unit="forwards")
    assert "Idle over ideal time: GPipe 50%, ZB-H1 17%" in picture.alt_text
    panels = picture.axes[1:]
    assert [axes.get_title(loc="left") for axes in panels] == ["GPipe: 50.0% bubble", "ZB-H1: 16.7% bubble"]
    assert {axes.get_xlim() for axes in panels} == {(0.0, 18.0)}
    assert panels[-1].get_xlabel() == "time (forwards)"
    labels = [text.get_text() for text in picture.legends[0].get_texts()]
    assert labels == ["forward", "backward", "weights", "idle: the bubble"]
    hatches = {shape.get_hatch() for shape in panels[1].patches}
    assert {"///", "..."} <= hatches  # told apart without colour
    numbers = [shape for shape in panels[0].collections if type(shape) is PathCollection]
    assert sum(len(shape.get_offsets()) for shape in numbers) == 2 * 24  # a number and its ground for every action


def test_the_bubble_stands_over_its_closed_form() -> None:
    points = {m: Measured.from_samples("", [0.9 / m, 1.1 / m, 1.2 / m], "") for m in (1, 2, 4, 8)}
    picture = plots.plot_bubble(points, num_stages=2, held_out=[2])
    assert "From 1 to 8 micro-batches the bubble falls from 110% to 14% of the ideal time" in picture.alt_text
    labels = {text.get_text() for text in picture.axes[0].get_legend().get_texts()}
    assert labels == {"◇ (p - 1)/m for p = 2", "● measured", "● measured, not seen by the fit"}
    assert picture.axes[0].get_ylabel() == "bubble, idle ÷ ideal time (%)"


def test_nothing_to_draw() -> None:
    for empty in ({}, {"none": Timeline(spans=())}):
        with pytest.raises(UsageError, match="at least one action"):
            plots.plot_schedules(empty)
    with pytest.raises(UsageError, match="at least one measured"):
        plots.plot_bubble({}, num_stages=2)
