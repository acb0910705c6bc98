"""The live check: a function of a cell, carried by value; what is shown; what is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labkit import exercises
from labkit.errors import NotebookError, UsageError


def in_main(source: str, name: str, **given: object) -> object:
    """What a cell defines: its functions live in ``__main__`` and are found by no import."""
    namespace: dict = {"__name__": "__main__", **given}
    exec(source, namespace)
    return namespace[name]


def test_passing_shows_the_explanation(lab: Path) -> None:
    source = "def share(p, m):\n    return (p - 1) / slots(p, m)\ndef slots(p, m):\n    return m + p - 1"
    feedback = exercises.check("00/bubble", in_main(source, "share"), near=lab / "work" / "exercises")
    assert feedback.passed
    assert feedback.result.status == "passed"
    assert repr(feedback).startswith("✓ 00/bubble: passed")
    assert "$(p-1)/(m+p-1)$" in feedback._repr_markdown_()
    assert not hasattr(feedback, "_repr_html_")


def test_failing_shows_input_and_own_hint_and_keeps_the_explanation_back(lab: Path) -> None:
    feedback = exercises.check("00/bubble", in_main("def b(p, m): return (p - 1) / m", "b"), near=lab)
    assert not feedback.passed
    shown = feedback._repr_markdown_()
    assert shown.startswith("**✗ 00/bubble: failed**")
    assert "input:  b(2, 1)" in shown
    assert "idle over busy time" in shown
    assert "Each stage waits" not in shown
    assert "hint: That is idle over busy time" in repr(feedback)


def test_a_value_is_checked_as_it_is(lab: Path) -> None:
    assert exercises.check("00/batch", 150, near=lab).passed
    assert "Upside down" in exercises.check("00/batch", 2e12 / 300e12, near=lab).result.hint


def test_the_stub_an_endless_answer_and_the_librarys_own_fail(lab: Path) -> None:
    import numpy as np

    stub = in_main("def b(p, m):\n    raise NotImplementedError", "b")
    assert "stub" in exercises.check("00/bubble", stub, near=lab).result.message
    endless = in_main("def m(x):\n    while True: pass", "m")
    assert "deadline of 3 s" in exercises.check("00/mean", endless, near=lab).result.message
    own = in_main("def m(x): return np.mean(np.concatenate(x))", "m", np=np)
    assert "not yours" in exercises.check("00/mean", own, near=lab).result.hint
    alias = in_main("def m(x): return mean(np.concatenate(x))", "m", np=np, mean=np.mean)
    assert exercises.check("00/mean", alias, near=lab).result.status == "failed"


def test_what_cannot_be_carried_is_not_verified(lab: Path) -> None:
    import threading

    held = in_main("def b(p, m):\n    with lock: return 0", "b", lock=threading.Lock())
    feedback = exercises.check("00/bubble", held, near=lab)
    assert (feedback.result.status, repr(feedback)[0]) == ("not verified", "–")


@pytest.mark.parametrize("task_id", ["bubble", "00", "/bubble", "../x/y", "77/bubble", ""])
def test_an_unknown_lesson_is_refused(lab: Path, task_id: str) -> None:
    with pytest.raises(UsageError):
        exercises.check(task_id, 1, near=lab)


def test_an_unknown_task_is_refused_with_those_there_are(lab: Path) -> None:
    with pytest.raises(NotebookError, match="bubble, mean, batch"):
        exercises.check("00/bubbles", 1, near=lab)


def test_an_attempt_is_recorded_where_it_can_be(lab: Path, lab_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = pytest.importorskip("labkit.records")
    exercises.check("00/batch", 75, near=lab)
    exercises.check("00/batch", 150, near=lab)
    with records.Records() as kept:
        runs = kept.runs()
    assert list(runs["name"]) == ["exercise 00/batch"] * 2
    blocked = lab_home / "file"
    blocked.write_text("")
    monkeypatch.setenv("LABKIT_HOME", str(blocked))
    assert exercises.check("00/batch", 150, near=lab).passed


def test_a_solved_exercise_runs_through_in_a_kernel_from_first_cell_to_last(fill) -> None:
    path = fill()
    notebook = json.loads(path.read_text())
    command = [sys.executable, "-m", "jupyter", "execute", "--output", "ran.ipynb", path.name]
    subprocess.run(command, cwd=path.parent, check=True, capture_output=True, timeout=120)
    ran = json.loads((path.parent / "ran.ipynb").read_text())
    assert len(ran["cells"]) == len(notebook["cells"])
    shown = [
        "".join(output["data"]["text/markdown"])
        for cell in ran["cells"]
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    assert [text.split(":")[0] for text in shown] == ["**✓ 00/bubble", "**✓ 00/mean", "**✓ 00/batch"]
    assert exercises.check_notebook(path.parent / "ran.ipynb").exit_code == 0


def test_the_failing_line_of_a_cell_is_shown(fill) -> None:
    path = fill(bubble="def bubble(p, m):\n    x = [1]\n    return x[p + m]")
    command = [sys.executable, "-m", "jupyter", "execute", "--allow-errors", "--output", "ran.ipynb", path.name]
    subprocess.run(command, cwd=path.parent, check=True, capture_output=True, timeout=120)
    assert "IndexError: list index out of range, in line 3: return x[p + m]" in (path.parent / "ran.ipynb").read_text()
