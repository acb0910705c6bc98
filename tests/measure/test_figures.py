"""Figures refuse nonsense, keep their interval through units and rates, and survive JSON."""

from __future__ import annotations

import json
import math

import pytest

from labkit.errors import UsageError
from labkit.measure import Measured, Quoted, Simulated, figure_from_dict

TIME = Measured(name="step", value=2.0, unit="s", low=1.0, high=4.0, n=7, warmup=2, machine="m1")


def test_from_samples_is_the_median_and_its_interval() -> None:
    figure = Measured.from_samples("t", [5, 1, 3, 2, 4, 9], "s", machine="m", warmup=1)
    assert (figure.value, figure.low, figure.high, figure.n) == (3.5, 1, 9, 6)
    assert figure.coverage == pytest.approx(1 - 2 / 64, abs=1e-4)


def test_a_rate_swaps_the_ends_of_the_interval() -> None:
    rate = TIME.rate(8, "B/s", name="bandwidth")
    assert (rate.low, rate.value, rate.high) == (2, 4, 8)
    assert (rate.unit, rate.name, rate.n, rate.warmup, rate.machine) == ("B/s", "bandwidth", 7, 2, "m1")


def test_scaled() -> None:
    scaled = TIME.scaled(1000, "ms")
    assert (scaled.low, scaled.value, scaled.high, scaled.unit, scaled.name) == (1000, 2000, 4000, "ms", "step")


@pytest.mark.parametrize(
    "figure",
    [
        TIME,
        Simulated(name="t", value=1.0, unit="s", calibrated_on="6 sizes", error=0.04, low=0.9, high=1.1),
        Simulated(name="t", value=1.0, unit="s", calibrated_on="6 sizes", error=0.04),
        Quoted(name="peak", value=312e12, unit="FLOP/s", source="NVIDIA A100 datasheet"),
    ],
)
def test_json_round_trip(figure: Measured | Simulated | Quoted) -> None:
    assert figure_from_dict(json.loads(json.dumps(figure.to_dict()))) == figure
    assert figure.to_dict()["kind"] == figure.kind


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Measured.from_samples("t", [], "s"), "at least one sample"),
        (lambda: Measured.from_samples("t", [1, math.inf], "s"), "must be finite; got inf"),
        (lambda: Measured(name="t", value=1, unit="s", low=2, high=3, n=1), "lie in its interval"),
        (lambda: Measured(name="t", value=1, unit="s", low=1, high=1, n=0), "n = 0"),
        (lambda: Measured(name="t", value=math.nan, unit="s", low=1, high=1, n=1), "finite"),
        (lambda: Simulated(name="t", value=1, unit="s", calibrated_on="", error=0.1), "what it was calibrated on"),
        (lambda: Simulated(name="t", value=1, unit="s", calibrated_on="x", error=-0.1), "held-out error"),
        (lambda: Quoted(name="t", value=1, unit="s", source=" "), "needs its source"),
        (lambda: TIME.rate(0, "B/s"), "positive amount"),
        (lambda: TIME.scaled(-1, "s"), "positive factor"),
        (lambda: figure_from_dict({"kind": "guessed"}), "got 'guessed'"),
    ],
)
def test_nonsense_is_refused(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
