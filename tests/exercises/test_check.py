"""What a check says of right, wrong, unsolved, broken, endless and greedy answers, and of checks that cannot run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import psutil
import pytest

from labkit import exercises
from labkit.errors import LabError, NotebookError

from .conftest import edit


def one(path: Path, task: str) -> exercises.TaskResult:
    return next(result for result in exercises.check_notebook(path).tasks if result.task == f"00/{task}")


def test_a_solution_and_a_solved_work_copy_pass_and_the_exercise_fails(lab: Path, fill) -> None:
    solution = exercises.check_notebook(lab / "solutions" / "00_sample.ipynb")
    assert (solution.passed, solution.failed, solution.not_verified, solution.exit_code) == (3, 0, 0, 0)
    assert exercises.check_notebook(fill()).exit_code == 0
    unsolved = exercises.check_notebook(lab / "exercises" / "00_sample.ipynb")
    assert (unsolved.passed, unsolved.failed, unsolved.exit_code) == (0, 3, 1)
    assert all("stub" in task.message for task in unsolved.tasks)


def test_the_report_as_json_has_one_entry_a_task(fill) -> None:
    told = exercises.check_notebook(fill(batch="batch = 1")).to_json()
    assert json.loads(json.dumps(told)) == told
    assert (told["passed"], told["failed"], told["not_verified"], told["exit_code"]) == (2, 1, 0, 1)
    assert [task["task"] for task in told["tasks"]] == ["00/bubble", "00/mean", "00/batch"]
    assert [task["status"] for task in told["tasks"]] == ["passed", "passed", "failed"]


def test_a_wrong_answer_is_told_its_input_what_came_and_what_was_wanted(fill) -> None:
    result = one(fill(bubble="def bubble(p, m):\n    return p / m"), "bubble")
    assert result.status == "failed"
    assert "input:  bubble(1, 1)" in result.message
    assert "got:    1.0" in result.message
    assert "wanted: 0.0" in result.message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("def mean_over_ranks(x):\n    return np.array([s.sum() / s.size for s in x]).sum() / len(x)", "average of"),
        ("def mean_over_ranks(x):\n    return np.mean(np.concatenate(x))", "not yours"),
        ("def mean_over_ranks(x):\n    return 0.25", "No mistake that is known"),
    ],
)  # fmt: skip
def test_a_known_mistake_gets_its_own_hint_and_another_a_general_one(fill, answer: str, hint: str) -> None:
    result = one(fill(mean=answer), "mean")
    assert result.status == "failed"
    assert hint in result.hint


def test_the_librarys_own_version_is_refused_even_when_the_answer_swallows_it(fill) -> None:
    swallow = (
        "def mean_over_ranks(x):\n    try:\n        return np.mean(np.concatenate(x))\n    except BaseException:\n"
        "        return sum(s.sum() for s in x) / sum(len(s) for s in x)"
    )
    result = one(fill(mean=swallow), "mean")
    assert (result.status, "numpy.mean" in result.message) == ("failed", True)
    alias = "from numpy import average as help_me\ndef mean_over_ranks(x):\n    return help_me(np.concatenate(x))"
    assert "numpy.average" in one(fill(mean=alias), "mean").message


def test_an_endless_loop_is_ended_at_the_deadline_and_leaves_no_process(fill) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    path = fill(
        mean="import subprocess\ndef mean_over_ranks(x):\n    subprocess.Popen(['sleep', '987'])\n    while True: pass"
    )
    result = one(path, "mean")
    assert result.status == "failed"
    assert "deadline of 3 s" in result.message
    assert "mean_over_ranks(" in result.message
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "987"]]


def test_an_endless_loop_in_the_cell_itself_is_ended_too(fill) -> None:
    result = one(fill(mean="while True:\n    pass"), "mean")
    assert (result.status, "deadline of 3 s" in result.message) == ("failed", True)


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux holds the bound on memory")
@pytest.mark.parametrize(
    "greedy", ["return np.ones(10**9)", "x = []\n    while True: x.append(bytearray(10**6))", "return np.zeros(10**11)"]
)
def test_an_answer_that_eats_memory_is_told_its_bound(fill, greedy: str) -> None:
    result = one(fill(mean=f"def mean_over_ranks(x):\n    {greedy}"), "mean")
    assert result.status == "failed"
    assert "memory bound of 0.5 GiB" in result.message


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def bubble(p, m):\n    return (p - 1", "line 2: return (p - 1"),
        ("def bubble(p, m):\n    return undefined_helper(p)", "line 2: return undefined_helper(p)"),
        ("def bubble(p, m):\n    return [][p]", "IndexError"),
        ("def bubble(p):\n    return 0", "TypeError"),
        ("1 / 0", "ZeroDivisionError"),
        ("pass", "must define bubble"),
        ("bubble = 3", "something to call"),
        ("def bubble(p, m):\n    exit()", "SystemExit"),
        ("def bubble(p, m):\n    import os; os._exit(0)", "ended its process with exit code 0"),
        ("def bubble(p, m):\n    import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("def bubble(p, m):\n    import os; os.close(0); return input()", "raised"),
        ("def bubble(p, m):\n    return input()", "EOFError"),
        ("def bubble(p, m):\n    return 'many'", "got:    'many'"),
        ("def bubble(p, m):\n    import no_such_package", "no_such_package"),
        ("def bubble(p, m):\n    return object().__repr__", "wanted: 0"),
        ("class Odd:\n    def __repr__(self): raise ValueError\ndef bubble(p, m):\n    return Odd()", "Odd instance"),
    ],
)
def test_a_broken_answer_fails_and_says_why(fill, source: str, told: str) -> None:
    result = one(fill(bubble=source), "bubble")
    assert result.status == "failed"
    assert told in result.message


def test_a_helper_elsewhere_is_missed_with_a_reason(fill) -> None:
    assert "task's own cell" in one(fill(bubble="def bubble(p, m):\n    return helper(p)"), "bubble").message


def test_lines_of_ipython_and_printing_do_no_harm(fill) -> None:
    source = "%timeit 1\n!ls\ndef bubble(p, m):\n    print('x' * 10**6)\n    return (p - 1) / (m + p - 1)"
    assert one(fill(bubble=source), "bubble").status == "passed"


def test_a_task_before_that_does_not_run_harms_only_itself(fill) -> None:
    report = exercises.check_notebook(fill(bubble="raise RuntimeError('not yet')"))
    assert [task.status for task in report.tasks] == ["failed", "passed", "passed"]


def test_an_answer_may_use_the_task_before(fill) -> None:
    source = "def mean_over_ranks(x):\n    return sum(s.sum() for s in x) / sum(len(s) for s in x) + bubble(1, 1)"
    assert one(fill(mean=source), "mean").status == "passed"


def test_an_answer_cannot_shadow_what_the_check_uses(fill) -> None:
    spoil = "class np:\n    pass\ndef check(grader, answer): pass\ndef bubble(p, m):\n    return 0.0"
    assert one(fill(bubble=spoil), "bubble").status == "failed"


def test_a_returned_value_that_the_check_cannot_read_fails_the_answer(lab: Path, fill) -> None:
    edit(lab / "solutions/00_sample.ipynb", "check-bubble", "grader.close(got", "grader.close(got + 0")
    result = one(fill(bubble="def bubble(p, m):\n    return None"), "bubble")
    assert (result.status, "NoneType" in result.message) == ("failed", True)
    assert one(fill(), "bubble").status == "passed"


@pytest.mark.parametrize(
    ("cell", "old", "new", "told"),
    [
        ("given", "import numpy as np", "import no_such_package_here", "no_such_package_here"),
        ("check-bubble", "for stages in range(1, 9):", "for stages in [][1]:", "IndexError"),
        ("check-bubble", "for stages in range(1, 9):", "for stages in ():", "compared nothing"),
        ("check-bubble", "def check(grader, answer):", "1 / 0\ndef check(grader, answer):", "ZeroDivisionError"),
        ("check-bubble", "def check(grader, answer):", "import os; os._exit(3)\ndef check(g, a):", "exit code 3"),
    ],
)  # fmt: skip
def test_a_check_that_cannot_run_is_not_verified(lab: Path, fill, cell: str, old: str, new: str, told: str) -> None:
    edit(lab / "solutions/00_sample.ipynb", cell, old, new)
    result = one(fill(), "bubble")
    assert result.status == "not verified"
    assert told in result.message


def test_what_this_machine_lacks_is_not_verified_and_gives_exit_code_two(lab: Path, fill) -> None:
    path = lab / "solutions" / "00_sample.ipynb"
    notebook = json.loads(path.read_text())
    box = next(cell for cell in notebook["cells"] if cell["id"] == "box-batch")
    for needs in (["cores:4096"], ["no-such-package"]):
        box["metadata"]["labkit"]["task"]["needs"] = needs
        path.write_text(json.dumps(notebook))
        report = exercises.check_notebook(fill())
        assert (report.passed, report.failed, report.not_verified, report.exit_code) == (2, 0, 1, 2)
        assert "needs" in report.tasks[2].message


def test_a_task_whose_cell_is_gone_fails(fill) -> None:
    path = fill()
    notebook = json.loads(path.read_text())
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] != "task-mean"]
    path.write_text(json.dumps(notebook))
    report = exercises.check_notebook(path)
    assert [task.status for task in report.tasks] == ["passed", "failed", "passed"]
    assert "not in the notebook" in report.tasks[1].message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nbformat": 3}', '{"cells": [], "nbformat": 4, "metadata": {}}'])
def test_what_is_no_exercise_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "00_other.ipynb"
    path.write_text(text)
    with pytest.raises(NotebookError, match="00_other"):
        exercises.check_notebook(path)


def test_a_missing_file_and_a_foreign_origin_are_refused(tmp_path: Path, fill) -> None:
    with pytest.raises(NotebookError, match="does not exist"):
        exercises.check_notebook(tmp_path / "none.ipynb")
    path = fill()
    for origin in ("../../etc/passwd", "solutions/../x.ipynb", "solutions/99_unknown.ipynb", 3):
        notebook = json.loads(path.read_text())
        notebook["metadata"]["labkit"]["generated_from"] = origin
        copy = tmp_path / "copy.ipynb"
        copy.write_text(json.dumps(notebook))
        with pytest.raises(LabError):
            exercises.check_notebook(copy)


def test_a_work_copy_outside_every_checkout_is_checked_by_the_labs_own(tmp_path: Path, lab: Path, monkeypatch) -> None:
    from labkit.exercises import locate

    monkeypatch.setattr(locate, "_own_root", lambda: lab)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(lab / "exercises" / "00_sample.ipynb", elsewhere)
    assert exercises.check_notebook(elsewhere / "00_sample.ipynb").failed == 3
