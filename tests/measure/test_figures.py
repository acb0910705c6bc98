"""Figures refuse nonsense, keep their interval through units and rates, and survive JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from labkit.errors import UsageError
from labkit.measure import Measured, Quoted, Simulated, figure_from_dict

TIME = Measured(name="step", value=2.0, unit="s", low=1.0, high=4.0, n=7, warmup=2, machine="m1")
ZERO = Measured(name="none", value=1.0, unit="s", low=0.0, high=1.0, n=7)
NEGATIVE = Measured(name="saved", value=1.0, unit="s", low=-1.0, high=2.0, n=7)


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


def test_a_ratio_is_as_wide_as_both_ends_allow_and_promises_no_more_than_both_together() -> None:
    other = Measured(name="base", value=1.0, unit="s", low=0.5, high=2.0, n=5, warmup=1, machine="m2", coverage=0.9)
    ratio = TIME.over(other, name="slower by")
    assert (ratio.low, ratio.value, ratio.high) == (0.5, 2, 8)
    assert (ratio.name, ratio.unit, ratio.n, ratio.machine) == ("slower by", "×", 5, "m1")
    assert ratio.coverage == pytest.approx(0.85)  # each may miss alone: 5 % and 10 %


def test_the_coverage_promised_for_a_ratio_is_kept() -> None:
    rng = np.random.default_rng(4)
    draws = [[Measured.from_samples("t", rng.lognormal(size=9), "s") for _ in "ab"] for _ in range(400)]
    ratios = [a.over(b, name="r") for a, b in draws]
    assert sum(ratio.low <= 1 <= ratio.high for ratio in ratios) / 400 >= ratios[0].coverage


@pytest.mark.parametrize(
    "figure",
    [
        TIME,
        Simulated(name="t", value=1.0, unit="s", calibrated_on="6 sizes", error=0.04, low=0.9, high=1.1),
        Simulated(name="t", value=1.0, unit="s", calibrated_on="6 sizes", error=0.04),
        Quoted(name="peak", value=312e12, unit="FLOP/s", source="NVIDIA A100 datasheet"),
        Measured(name="t", value=np.float32(0.1), unit="s", low=np.float64(0), high=np.int64(1), n=np.int64(3)),
    ],
)
def test_json_round_trip(figure: Measured | Simulated | Quoted) -> None:
    assert figure_from_dict(json.loads(json.dumps(figure.to_dict()))) == figure
    assert figure.to_dict()["kind"] == figure.kind


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Measured.from_samples("t", [], "s"), "t: At least one sample is needed"),
        (lambda: Measured.from_samples("t", [1], "s", coverage=95), "between 0 and 1; got 95"),
        (lambda: Measured.from_samples("t", [1, math.inf], "s"), "must be finite; got inf"),
        (lambda: Measured(name="t", value=1, unit="s", low=2, high=3, n=1), "lie in its interval"),
        (lambda: Measured(name="t", value=1, unit="s", low=1, high=1, n=0), "n = 0"),
        (lambda: Measured(name="t", value=math.nan, unit="s", low=1, high=1, n=1), "finite"),
        (lambda: Simulated(name="t", value=1, unit="s", calibrated_on="", error=0.1), "what it was calibrated on"),
        (lambda: Simulated(name="t", value=1, unit="s", calibrated_on="x", error=-0.1), "held-out error"),
        (lambda: Quoted(name="t", value=1, unit="s", source=" "), "needs its source"),
        (lambda: Measured(name="t", value=1, unit="s", low=1, high=1, n=3, warmup=-1), "no negative warm-up"),
        (lambda: Measured(name="t", value=1, unit="s", low=1, high=1, n=3, coverage=95), "between 0 and 1; got 95"),
        (lambda: Quoted(name="t", value="1", unit="s", source="x"), "got str"),
        (lambda: Quoted(name="t", value=torch.ones(()), unit="s", source="x"), r"got Tensor. Use .*item\(\)"),
        (lambda: Simulated(name="t", value=1, unit="s", calibrated_on="x", error=math.inf), "held-out error"),
        (lambda: Simulated(name="t", value=1, unit="s", calibrated_on="x", error=math.nan), "held-out error"),
        (lambda: TIME.rate(0, "B/s"), "positive amount"),
        (lambda: TIME.rate(math.inf, "B/s"), "positive amount"),
        (lambda: TIME.over(ZERO, name="x"), "positive figure below the line"),
        (lambda: NEGATIVE.over(TIME, name="x"), "above the line that is not negative"),
        (lambda: TIME.scaled(-1, "s"), "positive factor"),
        (lambda: figure_from_dict({"kind": "guessed"}), "got 'guessed'"),
        (lambda: figure_from_dict({"kind": "quoted", "name": "x"}), "fields name, value, unit, source; got name"),
        (lambda: figure_from_dict({**TIME.to_dict(), "spread": 1}), "got name, value, .*spread"),
    ],
)
def test_nonsense_is_refused(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
