"""The three kinds read as what they are, in text and in HTML, and no text of a figure becomes markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from labkit.errors import UsageError
from labkit.measure import Figure, Measured, Quoted, Simulated
from labkit.plots import figure_html, figure_text, show_figures, table

MEASURED = Measured(
    name="matmul",
    value=1.1e11,
    unit="FLOP/s",
    low=1.06e11,
    high=1.17e11,
    n=7,
    warmup=2,
    machine="m-3f9a",
    coverage=0.95,
)
SIMULATED = Simulated(
    name="64 ranks", value=0.21, unit="s", calibrated_on="2 and 4 ranks", error=0.043, low=0.2, high=0.23
)
QUOTED = Quoted(name="A100 float16", value=312e12, unit="FLOP/s", source="NVIDIA A100 datasheet, 2020")
KINDS = [MEASURED, SIMULATED, QUOTED]


class Text(HTMLParser):
    """The texts and the tags of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def words(html: str) -> str:
    return " ".join("".join(Text(html).texts).split())


def test_measured_names_machine_count_and_interval() -> None:
    assert figure_text(MEASURED) == (
        "● measured  matmul: 110 GFLOP/s  (106 to 117 GFLOP/s at 95%; n = 7 after 2 warm-up; machine m-3f9a)"
    )


def test_simulated_names_what_it_was_calibrated_on_and_its_error() -> None:
    assert figure_text(SIMULATED) == (
        "◇ simulated  64 ranks: 210 ms  (200 to 230 ms; calibrated on 2 and 4 ranks; error 4.3% on what it did not see)"
    )


def test_quoted_names_its_source() -> None:
    assert figure_text(QUOTED) == "❝ quoted  A100 float16: 312 TFLOP/s  (source: NVIDIA A100 datasheet, 2020)"


@pytest.mark.parametrize("figure", KINDS, ids=lambda f: f.kind)
def test_html_says_the_words_of_the_text(figure: Figure) -> None:
    assert words(figure_html(figure)) == " ".join(figure_text(figure).split())


def test_a_single_reading_claims_no_interval() -> None:
    alone = Measured(name="", value=2.0, unit="s", low=2.0, high=2.0, n=1)
    assert figure_text(alone) == "● measured  2 s  (a single reading, no spread known; n = 1)"


@pytest.mark.parametrize(
    "figure",
    [
        Quoted(name="<img src=x onerror=alert(1)>", value=1.0, unit="<b>", source="<script>alert('&')</script>"),
        Simulated(name="<i>", value=1.0, unit="s", calibrated_on="</div><svg onload=x>", error=0.1),
        Measured(name="<a href='x'>", value=1.0, unit="s", low=1.0, high=2.0, n=3, machine="<style>"),
    ],
    ids=lambda f: f.kind,
)
def test_nothing_in_a_figure_becomes_markup(figure: Figure) -> None:
    for html in (figure_html(figure), show_figures(figure)._repr_html_(), table([figure])._repr_html_()):
        assert set(Text(html).tags) <= {"div", "span", "strong", "table", "thead", "tbody", "tr", "th", "td", "caption"}
        assert figure.name in "".join(Text(html).texts)


def test_the_marks_differ_without_colour() -> None:
    shown = show_figures(*KINDS)
    assert [line[0] for line in repr(shown).splitlines()[:3]] == ["●", "◇", "❝"]
    assert [text for text in Text(shown._repr_html_()).texts if text in "●◇❝"] == ["●", "◇", "❝"]


def test_table_of_figures() -> None:
    shown = table(KINDS, caption="Three kinds")
    lines = [re.split(r"\s{2,}", line.strip()) for line in repr(shown).splitlines()]
    assert lines[0] == ["Three kinds"]
    assert lines[1] == ["kind", "what", "value", "spread", "interval", "n", "where from"]
    # Half of 106 to 117 is 5.5 of 110.
    assert lines[2] == ["● measured", "matmul", "110 GFLOP/s", "± 5.0%", "106 to 117 GFLOP/s", "7", "m-3f9a"]
    assert lines[4] == ["❝ quoted", "A100 float16", "312 TFLOP/s", "NVIDIA A100 datasheet, 2020"]
    assert Text(shown._repr_html_()).tags.count("tr") == 4


def test_table_of_rows_keeps_their_columns_and_names_figures() -> None:
    time = Measured(name="t", value=1e-3, unit="s", low=0.9e-3, high=1.1e-3, n=5)
    lines = [
        line.split() for line in repr(table([{"size": 64, "time": time}, {"size": 128, "note": None}])).splitlines()
    ]
    assert lines == [["size", "time", "note"], ["64", "●", "1", "ms", "±", "10.0%"], ["128"]]
    named = repr(table({"small": time}))
    assert "small" in named
    assert " t " not in named


def test_table_refuses_a_mixture() -> None:
    with pytest.raises(UsageError, match="rows of Measured, dict"):
        table([MEASURED, {"a": 1}])  # type: ignore[list-item]
