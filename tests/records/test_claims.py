"""Rules, verdicts, predictions: what decides, and what refuses to."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from labkit.errors import UsageError
from labkit.measure import Measured, Quoted, Simulated
from labkit.records import Claim, Prediction, Records, Rule, Score, calibration
from labkit.records.claims import judge
from labkit.records.predictions import _wilson, grade


def figure(low: float, value: float, high: float) -> Measured:
    return Measured(name="f", value=value, unit="×", low=low, high=high, n=5)


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        ("figure >= 4", 4, 5, "holds"),
        ("figure > 4", 4, 5, "not measurable here"),
        ("figure > 4", 4.1, 5, "holds"),
        ("figure >= 4", 3, 3.9, "does not hold here"),
        ("figure >= 4", 3, 4, "not measurable here"),
        ("figure < 2.5e9", 1e9, 2e9, "holds"),
        ("figure < 2", 2, 3, "does not hold here"),
        ("figure <= 2", 2, 3, "not measurable here"),
        ("0.8 <= figure <= 1.25", 0.9, 1.1, "holds"),
        ("0.8 <= figure <= 1.25", 0.7, 1.3, "not measurable here"),
        ("0.8 < figure < 1.25", 1.25, 1.4, "does not hold here"),
        ("figure == 3", 3, 3, "holds"),
        ("figure == 3", 3, 4, "not measurable here"),
        ("figure == 3", 3.5, 4, "does not hold here"),
        ("figure >= -1.5e-3", 0, 1, "holds"),
    ],
)
def test_the_whole_interval_decides(rule: str, low: float, high: float, verdict: str) -> None:
    decided = judge("c", rule, figure(low, (low + high) / 2, high))
    assert decided.verdict == verdict
    assert decided.reason


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10))
def test_verdicts_agree_with_checking_every_point(a: float, b: float, limit: float) -> None:
    low, high = sorted((a, b))
    points = [low, *(min(high, max(low, low + (high - low) * i / 50)) for i in range(51)), high]
    satisfied = [point >= limit for point in points]
    verdict = judge("c", f"figure >= {limit:.17g}", figure(low, low, high)).verdict
    wanted = "holds" if all(satisfied) else "does not hold here" if not any(satisfied) else "not measurable here"
    assert verdict == wanted


@pytest.mark.parametrize(
    "rule", ["", "figure", "x >= 2", "figure => 2", "figure >= two", "2 >= figure", "1 <= figure", "5 <= figure <= 1",
             "0 <= figure == 3", "3 < figure <= 3", "figure >= 1e999", "figure >= nan", "figure >= 2; drop",
             "figure >= __import__('os')", "1 <= figure >= 2"],
)  # fmt: skip
def test_nothing_else_is_a_rule(rule: str) -> None:
    with pytest.raises(UsageError, match=r"A rule reads|No figure can satisfy|limits are finite"):
        Rule.parse(rule)


CLAIM = Claim(id="00-x", statement="Bigger is faster", rule="figure >= 2", quantity="speed-up", unit="×")


def test_a_rule_is_fixed_before_and_stays() -> None:
    with Records() as records, records.start_run("00_test") as run:
        with pytest.raises(UsageError, match="was not fixed in this run"):
            run.decide("00-x", figure(3, 3, 3))
        run.fix(CLAIM)
        run.fix(CLAIM)  # a cell run twice
        other = Claim(id="00-x", statement="Bigger is faster", rule="figure >= 1", quantity="speed-up")
        with pytest.raises(UsageError, match="stays as it was before"):
            run.fix(other)
        assert run.decide("00-x", figure(3, 3, 3)).verdict == "holds"
        with pytest.raises(UsageError, match="stays as it was before"):
            run.fix(other)
        with pytest.raises(UsageError, match="has been decided in this run"):
            run.fix(CLAIM)
        assert run.decide("00-x", figure(1, 1, 1)).verdict == "does not hold here"
        with pytest.raises(UsageError, match="decided by figures that are measured; got a quoted one"):
            run.decide("00-x", Quoted(name="q", value=3, unit="×", source="s"))
        row = records.claims().iloc[0]
    told = ["does not hold here", 2, 1, "figure >= 2"]
    assert row[["verdict", "num_decisions", "figure", "rule"]].tolist() == told
    assert row["fixed_at"] <= row["decided_at"]


@pytest.mark.parametrize(
    "changed",
    [{"statement": "Smaller is faster"}, {"quantity": "time"}, {"unit": "s"}, {"decided_by": ("measured", "quoted")}],
)
def test_no_part_of_a_fixed_claim_can_be_changed(changed: dict[str, object]) -> None:
    with Records() as records, records.start_run("00_test") as run:
        run.fix(CLAIM)
        with pytest.raises(UsageError, match=f"was fixed with the {next(iter(changed))}"):
            run.fix(dataclasses.replace(CLAIM, **changed))
        with records.start_run("00_again") as again:  # a new run fixes what it likes
            again.fix(dataclasses.replace(CLAIM, **changed))


def test_a_figure_in_another_unit_decides_nothing() -> None:
    with Records() as records, records.start_run("00_test") as run:
        run.fix(CLAIM)
        run.predict(Prediction(id="p", question="?", unit="FLOP/s", low=1, high=2))
        seconds = Measured(name="f", value=3, unit="s", low=3, high=3, n=1)
        with pytest.raises(UsageError, match="Claim 00-x is in ×; got a figure in s"):
            run.decide("00-x", seconds)
        with pytest.raises(UsageError, match="Prediction p is in FLOP/s; got a figure in s"):
            run.score("p", seconds)
        assert records.claims()["verdict"].isna().all()
        assert records.predictions()["hit"].isna().all()


def test_what_cannot_be_measured_needs_a_reason() -> None:
    with Records() as records, records.start_run("00_test") as run:
        run.fix(CLAIM, Claim(id="00-y", statement="s", rule="figure < 1", quantity="q", decided_by=("simulated",)))
        assert run.cannot("00-x", "one core").verdict == "not measurable here"
        with pytest.raises(UsageError, match="needs a reason"):
            run.cannot("00-x", " ")
        simulated = Simulated(name="s", value=0.5, unit="", calibrated_on="6 sizes", error=0.05)
        assert run.decide("00-y", simulated).verdict == "holds"
        frame = records.claims().set_index("id")
    assert math.isnan(frame.loc["00-x", "figure"])
    assert frame.loc["00-x", "reason"] == "one core"


@pytest.mark.parametrize(
    "values",
    [{"id": ""}, {"statement": ""}, {"quantity": ""}, {"rule": "maybe"}, {"decided_by": ()}, {"decided_by": "measured"},
     {"decided_by": ("guessed",)}],
)  # fmt: skip
def test_a_claim_is_whole(values: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Claim(**{"id": "a", "statement": "s", "rule": "figure < 1", "quantity": "q", **values})


@pytest.mark.parametrize(
    ("low", "high", "value", "hit", "off_by"),
    [
        (1, 100, 10, True, 1),
        (1, 100, 1000, False, 100),
        (4, 9, 1.5, False, 4),
        (-1, 1, 3, False, 4),
        (2, 2, 2, True, 1),
    ],
)
def test_scores(low: float, high: float, value: float, hit: bool, off_by: float) -> None:
    prediction = Prediction(id="p", question="?", unit="s", low=low, high=high)
    score = grade(prediction, figure(value, value, value))
    assert isinstance(score, Score)
    assert (score.hit, score.off_by) == (hit, pytest.approx(off_by))


def test_a_guess_comes_before_the_answer_and_is_scored_once() -> None:
    with Records() as records:
        with records.start_run("00_test") as run:
            with pytest.raises(UsageError, match="No prediction"):
                run.score("p", figure(5, 5, 5))
            run.predict(Prediction(id="p", question="?", unit="×", low=1, high=2))
            run.predict(Prediction(id="p", question="?", unit="×", low=4, high=6))  # changed in time
            run.predict(Prediction(id="d", question="?", unit="×", low=1, high=2, source="default"))
            assert run.score("p", figure(5, 5, 5)).hit
            assert not run.score("p", figure(9, 9, 9)).hit  # shown, not recorded
            assert not run.score("d", figure(5, 5, 5)).hit
            with pytest.raises(UsageError, match="a guess comes before the answer"):
                run.predict(Prediction(id="p", question="?", unit="×", low=5, high=5))
        frame = records.predictions().set_index("id")
        assert bool(frame.loc["p", "hit"]) is True
        learner, default = calibration(records), calibration(records, "default")
    assert (learner["hits"], learner["total"], learner["share"]) == (1, 1, 1)
    assert (default["hits"], default["total"]) == (0, 1)
    assert learner["low"] == pytest.approx(0.2065, abs=1e-3)  # Wilson for 1 of 1
    assert learner["by_source"] == {"learner": {"hits": 1, "total": 1}, "default": {"hits": 0, "total": 1}}
    with pytest.raises(UsageError, match="smaller to a larger"):
        Prediction(id="p", question="?", unit="s", low=2, high=1)


def test_the_interval_of_a_share_is_the_one_of_scipy() -> None:
    for hits, total in [(0, 5), (3, 7), (10, 10), (40, 50)]:
        wilson = binomtest(hits, total).proportion_ci(method="wilson")
        assert _wilson(hits, total) == pytest.approx((wilson.low, wilson.high), abs=1e-6)
    assert _wilson(0, 0) == (0, 1)


def test_calibration_before_any_guess() -> None:
    with Records() as records:
        nothing = calibration(records)
        assert (nothing["hits"], nothing["total"], nothing["low"], nothing["high"]) == (0, 0, 0, 1)
        assert math.isnan(nothing["share"])
        with pytest.raises(UsageError, match="learner"):
            calibration(records, "somebody")
