"""One answer judged: the job it becomes, whose fault a broken check is, and the hint of the wrong answer it equals."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import util
from typing import Any

from labkit.exercises.job import Job
from labkit.exercises.process import Checker
from labkit.exercises.source import Exercise, Task, Wrong
from labkit.exercises.values import alike

__all__ = ["answer_of", "hint_for", "judge", "picture_job", "solved", "unmet_need", "wrong_answer"]

Cells = list[tuple[str, str]]  # (task, source): one a task
COMMON: tuple[Any, ...] = (None, 0, 1, -1, "", "nan", "inf")  # True and False are 1 and 0
NO_HINT = "No mistake that is known here gives this. Work the case above out by hand, then open the folded hints."


def answer_of(task: Task) -> str:
    """The solution's source of a task."""
    return "\n\n".join(cell.source for cell in task.cells)


def solved(exercise: Exercise, task: Task) -> Cells:
    """The solution of everything up to a task."""
    return [(each.name, answer_of(each)) for each in exercise.until(task)]


def wrong_answer(exercise: Exercise, task: Task, wrong: Wrong) -> Cells:
    """Everything before is solved; the task is answered by the solution overridden by a planted wrong answer."""
    return [*solved(exercise, task)[:-1], (task.name, f"{answer_of(task)}\n\n{wrong.source}")]


def judge(
    checker: Checker,
    exercise: Exercise,
    task: Task,
    cells: Cells | None = None,
    *,
    pickled: bytes = b"",
    sources: Mapping[str, str] | None = None,
    sys_path: Sequence[str] = (),
) -> dict[str, Any]:
    """The outcome for an answer given as cells or as a pickle. A check that breaks on an answer, and that the solution
    passes, has failed that answer; one that breaks on the solution too is not verified.
    """
    job = Job(
        **_common(exercise, task),
        check=task.check.source,
        answer_cells=cells or [],
        answer_pickle=base64.b64encode(pickled).decode(),
        sources=dict(sources or {}),
        sys_path=list(sys_path),
    )
    outcome = checker.run(job)
    if outcome["kind"] == "check":
        reference = checker.run(
            Job(**_common(exercise, task), check=task.check.source, answer_cells=solved(exercise, task))
        )
        if reference["status"] == "passed":
            return outcome | {"status": "failed", "kind": "value", "got": outcome["message"]}
        outcome["message"] += " (The solution does not pass it here either.)"
    return outcome


def picture_job(exercise: Exercise, task: Task) -> Job:
    """Draws the expected picture from the solution."""
    assert task.picture is not None
    return Job(**_common(exercise, task), picture=task.picture.source)


def _common(exercise: Exercise, task: Task) -> dict[str, Any]:
    return {
        "task": task.name,
        "answer_name": task.answer,
        "setup": [(f"given code, cell {cell.number}", cell.source) for cell in exercise.setup_before(task)],
        "reference": [(f"solution of {name}", source) for name, source in solved(exercise, task)],
        "deadline_s": task.deadline_s,
        "memory_bytes": task.memory_bytes,
    }


def hint_for(outcome: dict[str, Any], wrongs: Sequence[tuple[Wrong, dict[str, Any]]]) -> str:
    """The hint of the wrong answer that came to the same, else a general one; none for a cell not solved yet."""
    if outcome["status"] != "failed" or outcome["kind"] in ("unsolved", "syntax"):
        return ""
    ranked = [(_likeness(outcome, other), wrong.hint) for wrong, other in wrongs]
    best = max((likeness for likeness, _ in ranked), default=0)
    if best:
        return next(hint for likeness, hint in ranked if likeness == best)
    return NO_HINT if outcome["kind"] == "value" else ""


def _likeness(outcome: dict[str, Any], other: dict[str, Any]) -> int:
    """2: the same outputs for every input; 1: only the first failure, by a value that is not every second mistake's."""
    first, second = ({key: each.get(key) for key in ("status", "kind", "at", "got")} for each in (outcome, other))
    if not alike(first, second):
        return 0
    if alike([outcome["outputs"], outcome["trace"]], [other["outputs"], other["trace"]]):
        return 2
    return int(outcome["kind"] == "forbidden" or outcome.get("got") not in COMMON)


def unmet_need(task: Task) -> str:
    """Why this machine cannot check the task (``needs``: cuda, cores:N, ranks:N or a package), or nothing."""
    from labkit import hardware

    for need in task.needs:
        kind, _, amount = need.partition(":")
        machine = hardware.machine()
        if kind == "cuda":
            if machine.device != "cuda":
                return f"It needs a CUDA accelerator: {hardware.accelerator_reason() or 'none is attached'}."
        elif kind in ("cores", "ranks"):
            if machine.num_cores < int(amount):
                return f"It needs {amount} cores; this machine has {machine.num_cores}."
        elif util.find_spec(need) is None:
            return f"It needs the package {need}, which is not installed here. Run `make setup`."
    return ""
