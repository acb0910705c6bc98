"""Every lesson runs to its end in the quick profile, and decides every claim that it fixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit import lessons, runner

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SERVED = "12_continuous_batching"  # starts vLLM, which is ready in a minute only where it has the cores
VERDICTS = {"holds", "does not hold here", "not measurable here"}


@pytest.mark.notebook
@pytest.mark.timeout(420)  # beyond the runner's own deadline: how long a lesson takes is the machine's affair
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.alone] if path.stem == SERVED else [], id=path.stem) for path in LESSONS],
)
def test_quick_profile(path: Path, tmp_path: Path) -> None:
    report = runner.run_notebooks([path], profile="quick", out=tmp_path)
    assert report.ok, [notebook.error for notebook in report.notebooks]
    claims = json.loads((tmp_path / "claims.json").read_text())
    assert claims, "a lesson decides at least one claim"
    for claim in claims:
        assert {"id", "notebook", "statement", "rule", "figure", "verdict", "reason"} <= claim.keys()
        assert claim["verdict"] in VERDICTS
        assert claim["id"].startswith(lessons.lesson_of(path).id)
        assert claim["figure"] is not None or claim["verdict"] == "not measurable here"
        assert claim["verdict"] != "not measurable here" or claim["reason"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_says_what_it_is_for(path: Path) -> None:
    lesson = lessons.lesson_of(path)
    assert path.name.startswith(lesson.id + "_")
    assert lesson.question.endswith("?")
    assert len(lesson.objectives) >= 2
    assert lesson.wrong_belief
    cells = {cell.get("id") for cell in json.loads(path.read_text())["cells"]}
    assert lesson.signature_picture in cells
