"""What a learner gets: generated, deterministic, current; and every fault of a solution named with its cell."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit import exercises
from labkit.errors import NotebookError

from .conftest import edit


def generated(lab: Path) -> dict[str, Any]:
    return json.loads((lab / "exercises" / "00_sample.ipynb").read_text())


def cell(notebook: dict[str, Any], cell_id: str) -> dict[str, Any]:
    return next(cell for cell in notebook["cells"] if cell["id"] == cell_id)


def test_the_committed_sample_is_current_and_a_build_changes_nothing(lab: Path) -> None:
    before = (lab / "exercises" / "00_sample.ipynb").read_bytes()
    assert exercises.build(lab, check=True) == []
    assert exercises.build(lab) == []
    assert (lab / "exercises" / "00_sample.ipynb").read_bytes() == before


def test_an_exercise_holds_stubs_and_checks_and_nothing_of_the_solution(lab: Path) -> None:
    notebook = generated(lab)
    text = json.dumps(notebook)
    for secret in ("BEGIN SOLUTION", "def check(", "average of averages", "Sums and counts add", "300e12"):
        assert secret not in text
    assert not [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")]
    roles = {tag.partition(":")[0] for cell in notebook["cells"] for tag in cell["metadata"].get("tags", ())}
    assert roles == {"setup", "box", "task", "check", "picture"}
    stub = "".join(cell(notebook, "task-bubble")["source"])
    assert stub.startswith("def bubble(stages: int, micro_batches: int) -> float:")
    assert stub.endswith("    # YOUR CODE HERE\n    raise NotImplementedError")
    live = "".join(cell(notebook, "check-bubble")["source"])
    assert live == 'from labkit import exercises\n\nexercises.check("00/bubble", bubble)'
    nbformat.validate(nbformat.from_dict(notebook))


def test_the_box_shows_difficulty_minutes_proof_and_target(lab: Path) -> None:
    told = "".join(cell(generated(lab), "box-mean")["source"])
    assert told.startswith("### The mean over ranks\n\n> ★★☆☆☆ difficulty 2 of 5 · about 10 minutes")
    assert "**Proves that you can** average over uneven shards" in told
    assert "**Target:** the mean of all samples within 1e-12" in told


def test_the_file_says_where_it_comes_from(lab: Path) -> None:
    labels = generated(lab)["metadata"]["labkit"]
    assert labels["generated_from"] == "solutions/00_sample.ipynb"
    assert labels["source_hash"] == exercises.read(lab / "solutions" / "00_sample.ipynb").source_hash
    assert "Edit the solution" in labels["note"]


def test_the_expected_picture_is_a_png_with_words_for_who_cannot_see_it(lab: Path) -> None:
    shown = cell(generated(lab), "picture-bubble")
    assert shown["cell_type"] == "markdown"
    assert "![The idle share of 4 stages falls" in "".join(shown["source"])
    png = base64.b64decode(shown["attachments"]["bubble.png"]["image/png"])
    assert png.startswith(b"\x89PNG")


def test_a_picture_is_drawn_anew_only_when_its_source_changed(lab: Path) -> None:
    path = lab / "exercises" / "00_sample.ipynb"
    notebook = generated(lab)
    # The same picture as another machine's matplotlib would have written it.
    picture = cell(notebook, "picture-bubble")["attachments"]["bubble.png"]
    other = base64.b64encode(base64.b64decode(picture["image/png"]) + b"x").decode()
    picture["image/png"] = other
    path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    assert exercises.build(lab, check=True) == []
    edit(lab / "solutions" / "00_sample.ipynb", "picture-bubble", "bubble(4, count)", "bubble(8, count)")
    assert exercises.build(lab, check=True) == [path]
    assert exercises.build(lab) == [path]
    drawn = cell(generated(lab), "picture-bubble")["attachments"]["bubble.png"]["image/png"]
    assert drawn != other
    assert exercises.build(lab, check=True) == []
    assert exercises.build(lab, redraw=True) == [path]
    assert cell(generated(lab), "picture-bubble")["attachments"]["bubble.png"]["image/png"] == drawn


@pytest.mark.parametrize("broken", ["not base64!", "", base64.b64encode(b"GIF89a").decode()])
def test_a_picture_that_is_none_is_stale(lab: Path, broken: str) -> None:
    path = lab / "exercises" / "00_sample.ipynb"
    notebook = generated(lab)
    cell(notebook, "picture-bubble")["attachments"]["bubble.png"]["image/png"] = broken
    path.write_text(json.dumps(notebook))
    assert exercises.build(lab, check=True) == [path]


@pytest.mark.parametrize(
    "cell_id", ["head", "box-mean", "task-mean", "check-mean", "wrong-mean-2", "after-mean", "given"]
)
def test_any_change_of_a_solution_makes_its_exercise_stale(lab: Path, cell_id: str) -> None:
    path = lab / "solutions" / "00_sample.ipynb"
    notebook = json.loads(path.read_text())
    cell(notebook, cell_id)["source"].append("\n# changed")
    path.write_text(json.dumps(notebook))
    assert exercises.build(lab, check=True) == [lab / "exercises" / "00_sample.ipynb"]


def test_an_edited_exercise_is_stale_and_a_check_writes_nothing(lab: Path) -> None:
    path = lab / "exercises" / "00_sample.ipynb"
    edit(path, "hint-bubble-1", "Count", "Do not count")
    before = path.read_bytes()
    assert exercises.build(lab, check=True) == [path]
    assert path.read_bytes() == before
    assert exercises.build(lab) == [path]
    assert path.read_bytes() != before


def test_an_exercise_without_a_solution_is_removed_and_a_handwritten_one_refused(lab: Path) -> None:
    orphan = lab / "exercises" / "07_gone.ipynb"
    shutil.copy(lab / "exercises" / "00_sample.ipynb", orphan)
    assert exercises.build(lab, check=True) == [orphan]
    assert exercises.build(lab) == [orphan]
    assert not orphan.exists()
    own = lab / "exercises" / "08_own.ipynb"
    own.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    with pytest.raises(NotebookError, match="was not generated"):
        exercises.build(lab)
    assert own.exists()


def test_hidden_cells_and_hidden_tests_stay_behind(lab: Path) -> None:
    path = lab / "solutions" / "00_sample.ipynb"
    notebook = json.loads(path.read_text())
    hidden = {"id": "secret", "cell_type": "code", "metadata": {"tags": ["hidden"]}, "source": ["secret = 1"]}
    part = {"id": "part", "cell_type": "code", "metadata": {}, "source": [
        "seen = 1\n", "### BEGIN HIDDEN TESTS\n", "assert seen == 1\n", "### END HIDDEN TESTS",
    ]}  # fmt: skip
    notebook["cells"] += [hidden, part]
    path.write_text(json.dumps(notebook))
    exercises.build(lab)
    assert "secret" not in json.dumps(generated(lab))
    assert "".join(cell(generated(lab), "part")["source"]).strip() == "seen = 1"


@pytest.mark.parametrize(
    ("cell_id", "change", "told"),
    [
        ("task-bubble", {"source": "def bubble():\n    ### BEGIN SOLUTION\n    return 1"}, "must close"),
        ("task-bubble", {"source": "def bubble():\n    return 1"}, "must mark its solution"),
        ("task-bubble", {"source": "### BEGIN SOLUTION\ndef bubble(:\n### END SOLUTION"}, "not Python"),
        ("task-bubble", {"source": "### BEGIN SOLUTION\nprint(1)\n### END SOLUTION"}, "labkit.task.answer"),
        ("task-bubble", {"cell_type": "markdown"}, "must be a code cell"),
        ("check-bubble", {"source": "assert True"}, "must define check"),
        ("check-bubble", {"metadata": {"tags": ["check:buble"]}}, "no cell is tagged task:buble"),
        ("check-bubble", {"metadata": {}}, "one cell tagged check:bubble; it has 0"),
        ("wrong-bubble-1", {"metadata": {"tags": ["wrong:bubble"]}}, "needs its own hint"),
        ("after-bubble", {"metadata": {}}, "after:bubble"),
        ("box-bubble", {"metadata": {"tags": ["box:bubble"]}}, "missing"),
        ("box-bubble", {"id": ""}, "has no id"),
    ],
)
def test_a_solution_that_is_not_whole_is_refused_by_its_cell(lab: Path, cell_id: str, change: dict, told: str) -> None:
    path = lab / "solutions" / "00_sample.ipynb"
    notebook = json.loads(path.read_text())
    cell(notebook, cell_id).update(change)
    path.write_text(json.dumps(notebook))
    with pytest.raises(NotebookError, match=told) as caught:
        exercises.build(lab)
    assert "00_sample" in str(caught.value)


@pytest.mark.parametrize("value", [{"difficulty": 9}, {"difficult": 1}])
def test_a_box_with_impossible_metadata_is_refused(lab: Path, value: dict) -> None:
    path = lab / "solutions" / "00_sample.ipynb"
    notebook = json.loads(path.read_text())
    cell(notebook, "box-batch")["metadata"]["labkit"]["task"].update(value)
    path.write_text(json.dumps(notebook))
    with pytest.raises(NotebookError, match="difficulty"):
        exercises.read(path)


@pytest.mark.parametrize(
    ("source", "told"), [("1 / 0", "ZeroDivisionError"), ("3", "must end with a matplotlib figure")]
)
def test_a_picture_that_cannot_be_drawn_is_refused_and_leaves_the_file(lab: Path, source: str, told: str) -> None:
    target, path = lab / "exercises" / "00_sample.ipynb", lab / "solutions" / "00_sample.ipynb"
    before = target.read_bytes()
    notebook = json.loads(path.read_text())
    cell(notebook, "picture-bubble")["source"] = source
    path.write_text(json.dumps(notebook))
    with pytest.raises(NotebookError, match=told):
        exercises.build(lab)
    assert target.read_bytes() == before
