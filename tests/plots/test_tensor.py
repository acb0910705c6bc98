"""The picture of tensor parallelism: a step against the bandwidth between its devices."""

from __future__ import annotations

import pytest

from labkit import plots
from labkit.errors import UsageError
from labkit.measure import Measured


def seconds(value: float) -> Measured:
    return Measured.from_samples("", [value * 0.9, value, value * 1.1], "s")


def test_the_finding_is_the_ratio_and_what_the_fit_did_not_see_is_hollow() -> None:
    steps = {2e6: seconds(3.0), 8e6: seconds(1.0), 32e6: seconds(0.5)}
    picture = plots.plot_step_over_bandwidth(
        steps,
        model=lambda bandwidth: 1 / 3 + 16e6 / 3 / bandwidth,
        one_device=seconds(0.9),
        held_out=[8e6],
        links={"inside a node": 32e6, "between nodes": 2e6},
    )
    assert "A step takes 6.0 times as long over the slowest link as over the fastest" in picture.alt_text
    axes = picture.axes[0]
    assert axes.get_xlabel() == "bandwidth between the devices (MB/s)"
    assert axes.get_ylabel() == "time of a step (s)"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(labels) == sorted(
        [
            "● measured",
            "● measured, not seen by the fit",
            "● one device alone",
            "◇ computing + bytes ÷ bandwidth",
        ]
    )
    assert {text.get_text() for text in axes.texts} == {"inside a node", "between nodes"}
    assert axes.get_ylim()[0] == 0  # times are compared by their heights


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="at least one step time"):
        plots.plot_step_over_bandwidth({})
    with pytest.raises(UsageError, match="bandwidth above 0"):
        plots.plot_step_over_bandwidth({0.0: seconds(1)})
