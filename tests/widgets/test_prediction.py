"""A prediction is the learner's where they bet, the default where nobody does, and never blocks; then it is scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.records import Claim, Records, Run, Verdict, calibration
from labkit.widgets import predict, score_view, verdict_view

QUESTION = "How fast is a <matmul>?"


def reached(value: float) -> Measured:
    return Measured(name="matmul", value=value, unit="FLOP/s", low=0.9 * value, high=1.1 * value, n=7, machine="m")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records(tmp_path / "records.sqlite") as opened:
        yield opened


@pytest.fixture
def run(records: Records) -> Run:
    return records.start_run("00")


def form_of(run: Run):  # type: ignore[no-untyped-def]
    return predict(run, "peak", QUESTION, "FLOP/s", (2e10, 4e11), hint="Tens of <GFLOP/s>.")


def kept(records: Records) -> list[tuple[str, float, float]]:
    return list(records.predictions()[["source", "low", "high"]].itertuples(index=False, name=None))


def test_fields_are_in_readable_units_and_named(run: Run) -> None:
    form = form_of(run)
    assert (form.low_field.value, form.high_field.value) == (20.0, 400.0)
    assert (form.low_field.description, form.high_field.description) == ("at least (GFLOP/s)", "at most (GFLOP/s)")
    assert (form.low, form.high, form.made) == (2e10, 4e11, False)
    assert "I am 80 % sure that it is 20 to 400 GFLOP/s, a factor of 20." in form._status.value
    assert "&lt;matmul&gt;" in form.children[0].value


def test_a_bet_is_the_learners_and_locks(run: Run, records: Records) -> None:
    form = form_of(run)
    form.low_field.value = 50
    form.button.click()
    assert form.made
    assert kept(records) == [("learner", 5e10, 4e11)]
    assert all(widget.disabled for widget in (form.low_field, form.high_field, form.button))
    assert "Your bet is recorded: 50 to 400 GFLOP/s" in form._status.value
    form.low_field.value = 1
    form.button.click()
    assert (form.low, kept(records)) == (5e10, [("learner", 5e10, 4e11)])


def test_betting_on_the_default_is_a_bet(run: Run, records: Records) -> None:
    form_of(run).button.click()
    assert kept(records) == [("learner", 2e10, 4e11)]


def test_an_impossible_range_is_told_and_not_recorded(run: Run, records: Records) -> None:
    form = form_of(run)
    form.low_field.value = 500
    form.button.click()
    assert "got 500 to 400 GFLOP/s" in form._status.value
    assert not form.made
    assert kept(records) == []
    assert form.ensure().source == "default"


def test_who_goes_on_without_betting_gets_the_default(run: Run, records: Records) -> None:
    score = form_of(run).score(reached(1e11))
    assert score.hit
    assert kept(records) == [("default", 2e10, 4e11)]


def test_numbers_typed_but_not_pressed_are_the_learners(run: Run, records: Records) -> None:
    form = form_of(run)
    form.high_field.value = 90
    assert form.value().high == 9e10
    assert kept(records) == [("learner", 2e10, 9e10)]


def test_without_a_front_end_the_default_is_recorded_at_once(
    run: Run, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    form = form_of(run)
    assert form.made
    assert kept(records) == [("default", 2e10, 4e11)]
    assert form._repr_mimebundle_() == {
        "text/plain": "Prediction peak, recorded (default): How fast is a <matmul>? 20 to 400 GFLOP/s"
    }


def test_the_cell_may_be_run_again_after_the_score(run: Run, records: Records) -> None:
    form_of(run).score(reached(1e11))
    again = form_of(run)
    assert again.score(reached(1e11)).hit
    assert (again.made, again.button.disabled) == (True, True)
    assert kept(records) == [("default", 2e10, 4e11)]
    form = form_of(run)
    form.button.click()
    assert "scored already" in form._status.value


def test_a_default_that_is_no_range_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match=r"got 2 to 1 s\."):
        predict(run, "a", "b", "s", (2.0, 1.0))


def test_a_broken_record_is_shown_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def predict(self, prediction: object) -> None:
            raise OSError("disk gone")

        def score(self, prediction_id: str, figure: object) -> None:
            raise AssertionError

    failures = tmp_path / "failures.jsonl"
    monkeypatch.setenv("LABKIT_WIDGET_FAILURES", str(failures))
    form = predict(Broken(), "peak", QUESTION, "s", (1.0, 2.0))  # type: ignore[arg-type]
    form.button.click()
    assert "OSError: disk gone" in form._status.value
    assert json.loads(failures.read_text())["widget"] == "predict"


def test_a_score_says_range_figure_and_factor(run: Run, records: Records) -> None:
    form = predict(run, "memory", "How fast is <memory>?", "B/s", (1e9, 4e9))
    form.bet()
    score = form.score(Measured(name="", value=2e10, unit="B/s", low=1.9e10, high=2.1e10, n=5))
    inside = form_of(run).score(reached(1e11))
    shown = score_view([score, inside], calibration(records))
    # The geometric middle of 1 to 4 GB/s is 2 GB/s.
    assert repr(shown).splitlines() == [
        "✗ You said 1 to 4 GB/s, it was 20 GB/s: off by 10 ×",
        "✓ The default said 20 to 400 GFLOP/s, it was 100 GFLOP/s: inside, 1.1 × from the middle",
        "So far 0 of 1 ranges held the answer (0%); 80% is what such ranges should reach.",
    ]
    html = shown._repr_html_()
    assert html.count("<svg") == 2
    assert "How fast is &lt;memory&gt;?" in html
    assert 'role="img" aria-label="✗ You said 1 to 4 GB/s' in html


def test_a_score_around_zero_is_drawn_too(run: Run) -> None:
    form = predict(run, "gain", "Which gain?", "%", (-10.0, 30.0))
    score = form.score(Measured(name="", value=-40.0, unit="%", low=-41.0, high=-39.0, n=5))
    assert "it was -40 %" in repr(score_view(score))
    assert "<svg" in score_view(score)._repr_html_()


def test_nothing_scored_yet() -> None:
    assert repr(score_view([], {"hits": 0, "total": 0})) == "No bet of your own is scored yet; only those count here."


def test_verdicts_have_a_mark_each_and_their_reason(run: Run) -> None:
    run.fix(Claim(id="00.1", statement="It is <fast>.", rule="figure >= 5e10", quantity="rate", unit="FLOP/s"))
    run.fix(Claim(id="00.2", statement="It is slow.", rule="figure < 5e10", quantity="rate", unit="FLOP/s"))
    run.fix(Claim(id="00.3", statement="It has float8.", rule="figure >= 1", quantity="count"))
    verdicts = [
        run.decide("00.1", reached(1e11)),
        run.decide("00.2", reached(1e11)),
        run.cannot("00.3", "no <float8> here"),
    ]
    shown = verdict_view(verdicts, {"00.1": "It is <fast>."})
    lines = repr(shown).splitlines()
    assert [line.split(":")[0] for line in lines] == ["✓ holds", "✗ does not hold here", "– not measurable here"]
    assert lines[0].startswith("✓ holds: It is <fast>.; 100 GFLOP/s (90 to 110 GFLOP/s); ")
    assert lines[2] == "– not measurable here: 00.3; no <float8> here"
    html = shown._repr_html_()
    assert "It is &lt;fast&gt;." in html
    assert "no &lt;float8&gt; here" in html
    assert html.count("<tr>") == 4
    assert repr(verdict_view(Verdict(claim_id="a", verdict="holds"))) == "✓ holds: a"
