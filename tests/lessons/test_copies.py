"""The learner's copies: laid, updated, merged or left, and never lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit import lessons
from labkit.errors import NotebookError, UsageError


def start(lab: Any, **options: Any) -> lessons.WorkReport:
    return lessons.start(lab.root, lab.work, **options)


def test_the_first_start_lays_lessons_and_exercises(lab: Any) -> None:
    lab.write(lab.root / "exercises" / "00_start_here.ipynb", lab.read(lab.lesson))
    report = start(lab)
    exercise = lab.work / "exercises" / "00_start_here.ipynb"
    assert report.laid == (lab.copy, exercise)
    assert lab.sources() == lab.cells == lab.sources(exercise)
    assert list((lab.work / ".base" / "notebooks").glob("00_start_here.*.ipynb"))
    assert lessons.lesson_of(lab.copy) == lessons.lesson_of(lab.lesson)
    again = start(lab)
    assert (again.unchanged, again.laid) == ((lab.copy, exercise), ())


def test_a_second_start_writes_nothing(lab: Any) -> None:
    start(lab)
    before = {path: path.stat().st_mtime_ns for path in lab.work.rglob("*")}
    start(lab)
    assert {path: path.stat().st_mtime_ns for path in lab.work.rglob("*")} == before


def test_an_untouched_copy_is_updated(lab: Any) -> None:
    start(lab)
    lab.publish(b="print(x, y)", d="d = 4")
    assert start(lab).updated == (lab.copy,)
    assert lab.sources() == lab.cells
    assert start(lab).unchanged == (lab.copy,)


def test_running_a_lesson_is_no_edit_and_its_outputs_stay_where_the_code_is_the_same(lab: Any) -> None:
    start(lab)
    lab.run()
    before = lab.copy.read_bytes()
    assert start(lab).unchanged == (lab.copy,)
    assert lab.copy.read_bytes() == before
    lab.publish(b="print(x, y)")
    assert start(lab).updated == (lab.copy,)
    assert lab.outputs() == {"a": "a\n", "c": "c\n"}
    assert lab.read()["metadata"]["language_info"]["version"] == "3.11.9"
    kept = list((lab.work / ".base" / "kept" / "notebooks").glob("*.ipynb"))
    assert [path.read_bytes() for path in kept] == [before]  # the output of b is nowhere else


def test_an_edited_copy_is_left_while_the_lesson_is_unchanged(lab: Any) -> None:
    start(lab)
    lab.edit(a="x = 99")
    before = lab.copy.read_bytes()
    assert start(lab).unchanged == (lab.copy,)
    assert lab.copy.read_bytes() == before


def test_edits_of_both_sides_are_merged(lab: Any) -> None:
    start(lab)
    lab.edit(a="x = 10\ny = 2\nz = 3", mine="my_own = 1")
    lab.run()
    lab.publish(a="x = 1\ny = 2\nz = 30", b="print(x, y)", new="n = 1")
    assert start(lab).merged == (lab.copy,)
    assert lab.sources() == {
        "m": "# Start\n", "a": "x = 10\ny = 2\nz = 30", "b": "print(x, y)", "c": "c = 3", "mine": "my_own = 1",
        "new": "n = 1",
    }  # fmt: skip
    assert lab.outputs() == {"c": "c\n"}
    assert start(lab).unchanged == (lab.copy,)
    lab.publish(c="c = 4")
    assert start(lab).merged == (lab.copy,)
    assert lab.sources()["a"] == "x = 10\ny = 2\nz = 30"
    assert lab.sources()["c"] == "c = 4"


def test_a_conflict_leaves_the_copy_and_names_the_cell(lab: Any) -> None:
    start(lab)
    lab.edit(b="print('mine')", c="c = 'mine'")
    before = lab.copy.read_bytes()
    lab.publish(b="print('theirs')", m="# New\n")
    for _ in range(2):  # told again until it is settled
        (conflict,) = start(lab).conflicts
        assert lab.copy.read_bytes() == before
        assert lab.sources(lab.new) == lab.cells
        assert conflict.beside == lab.new
        assert len(conflict.cells) == 1
        assert "cell 3 (id b, `print('mine')`)" in conflict.cells[0]
        assert "change the same lines" in str(conflict)
        assert "00_start_here.new.ipynb" in str(conflict)
    assert not lab.new.with_name("00_start_here.new-2.ipynb").exists()


def test_deleting_the_offered_version_settles_a_conflict(lab: Any) -> None:
    start(lab)
    lab.edit(b="print('mine')")
    lab.publish(b="print('theirs')")
    assert start(lab).conflicts
    lab.edit(b="print('mine', 'theirs')")
    lab.new.unlink()
    for _ in range(2):
        report = start(lab)
        assert (report.unchanged, report.conflicts) == ((lab.copy,), ())
    lab.publish(c="c = 9")  # another cell: nothing clashes any more
    assert start(lab).merged == (lab.copy,)
    assert (lab.sources()["b"], lab.sources()["c"]) == ("print('mine', 'theirs')", "c = 9")
    lab.publish(b="print('theirs again')")
    assert start(lab).conflicts


def test_taking_the_offered_version_settles_it_too(lab: Any) -> None:
    start(lab)
    lab.edit(b="print('mine')")
    lab.publish(b="print('theirs')")
    start(lab)
    lab.new.replace(lab.copy)
    assert start(lab).unchanged == (lab.copy,)
    lab.publish(b="print('theirs 2')")
    assert start(lab).updated == (lab.copy,)


def test_an_offered_version_that_the_learner_edited_is_not_overwritten(lab: Any) -> None:
    start(lab)
    lab.edit(b="print('mine')")
    lab.publish(b="print('theirs')")
    start(lab)
    document = lab.read(lab.new)
    document["cells"][0]["source"] = ["# my notes"]
    lab.write(lab.new, document)
    lab.publish(b="print('theirs 2')")
    (conflict,) = start(lab).conflicts
    assert conflict.beside == lab.new.with_name("00_start_here.new-2.ipynb")
    assert lab.sources(lab.new)["m"] == "# my notes"
    lab.publish(b="print('theirs 3')")  # the second one was not touched, so it may be replaced
    (conflict,) = start(lab).conflicts
    assert lab.sources(lab.new.with_name("00_start_here.new-2.ipynb"))["b"] == "print('theirs 3')"


def test_an_offered_version_that_the_learner_ran_is_not_overwritten(lab: Any) -> None:
    start(lab)
    lab.edit(b="print('mine')")
    lab.publish(b="print('theirs')")
    start(lab)
    document = lab.read(lab.new)
    document["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["an hour's work\n"]}]
    lab.write(lab.new, document)
    lab.publish(b="print('theirs 2')")
    (conflict,) = start(lab).conflicts
    assert conflict.beside == lab.new.with_name("00_start_here.new-2.ipynb")
    assert "an hour's work" in lab.new.read_text()


def test_deletions(lab: Any) -> None:
    start(lab)
    lab.edit(c="")
    lab.publish(a="x = 5", b="")
    assert start(lab).merged == (lab.copy,)
    assert lab.sources() == {"m": "# Start\n", "a": "x = 5"}
    lab.edit(m="")
    lab.publish(m="# Changed\n")
    (conflict,) = start(lab).conflicts
    assert "you deleted it, and the new version changes it" in conflict.cells[0]


def test_what_the_lab_removes_stays_with_the_learner(lab: Any) -> None:
    start(lab)
    lab.lesson.unlink()
    assert start(lab).removed == (lab.copy,)
    assert lab.copy.exists()


def test_what_the_learner_deleted_is_laid_again_only_when_asked(lab: Any) -> None:
    start(lab)
    lab.copy.unlink()
    assert start(lab).deleted == (lab.copy,)
    assert not lab.copy.exists()
    assert start(lab, restore=True).laid == (lab.copy,)
    assert lab.sources() == lab.cells


@pytest.mark.parametrize(
    "content", [b"", b'{"cells": [', b"[]", b"\xff\xfe", b'{"nbformat": 4, "cells": [1]}', b'{"nbformat": 3}']
)
def test_a_torn_copy_is_left_and_named(lab: Any, content: bytes) -> None:
    start(lab)
    lab.copy.write_bytes(content)
    for _ in range(2):
        (conflict,) = start(lab).conflicts
        assert "cannot be read as a notebook" in str(conflict)
        assert lab.copy.read_bytes() == content
        assert lab.sources(lab.new) == lab.cells
    lab.new.replace(lab.copy)
    assert start(lab).unchanged == (lab.copy,)


def test_a_file_that_was_there_before_the_lab_is_not_touched(lab: Any) -> None:
    document = lab.read(lab.lesson)
    document["cells"][1]["source"] = ["something else"]
    lab.write(lab.copy, document)
    (conflict,) = start(lab).conflicts
    assert "not known which version you started from" in str(conflict)
    assert lab.sources()["a"] == "something else"


def test_a_copy_whose_tool_drops_cell_ids_still_merges(lab: Any) -> None:
    start(lab)
    document = lab.read()
    for cell in document["cells"]:
        del cell["id"]
    document["cells"].append({"cell_type": "code", "metadata": {}, "source": "own", "outputs": []})
    document["nbformat_minor"] = 4
    lab.write(lab.copy, document)
    lab.publish(c="c = 4")
    assert start(lab).merged == (lab.copy,)
    assert list(lab.sources().values()) == ["# Start\n", "x = 1\ny = 2\nz = 3", "print(x)", "c = 4", "own"]


def test_moved_cells(lab: Any) -> None:
    start(lab)
    document = lab.read()
    document["cells"].reverse()
    lab.write(lab.copy, document)
    lab.publish(b="print(x, y)", new="n = 1")
    assert start(lab).merged == (lab.copy,)
    assert list(lab.sources()) == ["c", "new", "b", "a", "m"]  # new followed c upstream
    lab.cells = {name: lab.cells[name] for name in ("b", "a", "m", "c", "new")}
    lab.publish()
    (conflict,) = start(lab).conflicts
    assert "order of the cells" in str(conflict)


def test_reset_lays_a_fresh_copy_beside(lab: Any) -> None:
    start(lab)
    lab.edit(a="broken")
    before = lab.copy.read_bytes()
    first, second = lessons.reset(lab.copy), lessons.reset(lab.copy)
    assert [path.name for path in (first, second)] == ["00_start_here.fresh.ipynb", "00_start_here.fresh-2.ipynb"]
    assert lab.sources(first) == lab.cells
    assert lab.copy.read_bytes() == before
    with pytest.raises(UsageError, match="not a work copy that the lab laid"):
        lessons.reset(lab.lesson)


def test_the_checkouts_own_folders_are_refused(lab: Any) -> None:
    before = lab.lesson.read_bytes()
    for work in (lab.root, lab.root / "notebooks", lab.root / "notebooks" / "mine"):
        with pytest.raises(UsageError, match="cannot live in the checkout's own"):
            lessons.start(lab.root, work)
    assert lab.lesson.read_bytes() == before


def test_a_work_folder_that_cannot_be_made(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        lessons.start(lab.root, tmp_path / "file")


def test_a_lesson_without_cell_ids_is_refused(lab: Any) -> None:
    document = lab.read(lab.lesson)
    del document["cells"][0]["id"]
    lab.write(lab.lesson, document)
    with pytest.raises(NotebookError, match="cells without an id"):
        start(lab)


def test_half_a_surrogate_in_an_output_survives_an_update(lab: Any) -> None:
    start(lab)
    lab.run()
    document = lab.read()
    document["cells"][1]["outputs"][0]["text"] = ["\ud800"]
    lab.copy.write_text(json.dumps(document))
    lab.publish(c="c = 5")
    assert start(lab).updated == (lab.copy,)
    assert lab.outputs()["a"] == "\ud800"
