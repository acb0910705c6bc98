"""The four proofs, of every exercise there is, of the sample, and that each of them can be refuted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit import exercises

from .conftest import SAMPLE, edit

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = [*sorted((ROOT / "solutions").glob("*.ipynb")), SAMPLE / "solutions" / "00_sample.ipynb"]


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda p: p.stem)
def test_the_solution_passes_the_stub_fails_each_wrong_answer_fails_and_the_file_is_current(path: Path) -> None:
    report = exercises.prove(path)
    assert report.ok, "\n".join(f"{proof.task}: {proof.message}" for proof in report.failures)
    assert {proof.proof for proof in report.proofs} >= {"solution", "current"}


def test_nothing_in_exercises_is_stale_or_written_by_hand() -> None:
    assert exercises.build(ROOT, check=True) == []


def refuted(lab: Path) -> set[tuple[str, str]]:
    report = exercises.prove(lab / "solutions" / "00_sample.ipynb")
    assert report.ok is not bool(report.failures)
    return {(proof.proof, proof.task) for proof in report.failures if proof.proof != "current"}


@pytest.mark.parametrize(
    ("cell_id", "old", "new", "proof"),
    [
        ("task-bubble", "(stages - 1) /", "stages /", {("solution", "bubble")}),
        ("task-bubble", "def bubble", "bubble = None\ndef bubble", set()),
        ("check-mean", '"numpy.mean", "numpy.average"', '"numpy.sort"', {("wrong", "mean")}),
        ("check-batch", "grader.close(answer, 150", "grader.close(150, 150", {("wrong", "batch")}),
        ("wrong-bubble-1", "def bubble(", "def bubbles(", {("wrong", "bubble")}),
        ("wrong-bubble-2", "(stages - 1) / micro_batches", "stages / (micro_batches + stages)", {("wrong", "bubble")}),
    ],
)  # fmt: skip
def test_each_proof_can_be_refuted(lab: Path, cell_id: str, old: str, new: str, proof: set) -> None:
    edit(lab / "solutions" / "00_sample.ipynb", cell_id, old, new)
    assert refuted(lab) == proof


def change(lab: Path, cell_id: str, fields: dict[str, Any] | None) -> None:
    path = lab / "solutions" / "00_sample.ipynb"
    notebook = json.loads(path.read_text())
    cell = next(cell for cell in notebook["cells"] if cell["id"] == cell_id)
    if fields is None:
        notebook["cells"].remove(cell)
    else:
        cell.update(fields)
    path.write_text(json.dumps(notebook))


def test_a_stub_that_passes_is_refuted(lab: Path) -> None:
    solved = "def bubble(p, m):\n    return (p - 1) / (m + p - 1)\n"
    change(lab, "task-bubble", {"source": f"{solved}if 0:\n    ### BEGIN SOLUTION\n    pass\n    ### END SOLUTION"})
    assert refuted(lab) == {("stub", "bubble")}


def test_two_wrong_answers_are_too_few_and_two_hints_must_differ(lab: Path) -> None:
    change(lab, "wrong-mean-2", None)
    assert refuted(lab) == {("wrong", "mean")}
    tags = {"tags": ["wrong:batch"], "labkit": {"hint": "Mind the units: both are tera."}}
    change(lab, "wrong-batch-1", {"metadata": tags})
    assert refuted(lab) == {("wrong", "mean"), ("wrong", "batch")}


def test_a_stale_file_and_a_missing_one_are_refuted(lab: Path) -> None:
    edit(lab / "exercises" / "00_sample.ipynb", "hint-bubble-1", "Count", "Guess")
    report = exercises.prove(lab / "solutions" / "00_sample.ipynb")
    assert [(proof.proof, "stale" in proof.message) for proof in report.failures] == [("current", True)]
    (lab / "exercises" / "00_sample.ipynb").unlink()
    assert not exercises.prove(lab / "solutions" / "00_sample.ipynb").ok


def test_what_this_machine_lacks_is_neither_proved_nor_refuted(lab: Path) -> None:
    path = lab / "solutions" / "00_sample.ipynb"
    notebook = json.loads(path.read_text())
    box = next(cell for cell in notebook["cells"] if cell["id"] == "box-batch")
    box["metadata"]["labkit"]["task"]["needs"] = ["cores:4096"]
    path.write_text(json.dumps(notebook))
    exercises.build(lab)
    report = exercises.prove(path)
    assert report.ok
    assert [proof.task for proof in report.not_verified] == ["batch"]
