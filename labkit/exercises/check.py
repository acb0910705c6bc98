"""``labkit check``: every task of an exercise, a work copy or a solution, each in its own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.exercises.judging import Cells, answer_of, hint_for, judge, unmet_need, wrong_answer
from labkit.exercises.locate import solution_for
from labkit.exercises.process import Checker
from labkit.exercises.reading import cells_of, read_notebook
from labkit.exercises.source import Exercise, Task

__all__ = ["CheckReport", "TaskResult", "check_notebook", "grade"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """``task`` as in ``"00/ring"``; status passed, failed or not verified; ``seconds`` the answer's own time."""

    task: str
    status: str
    message: str = ""
    hint: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data, under the fields' names."""
        return {
            "task": self.task, "status": self.status, "message": self.message, "hint": self.hint,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """All tasks of one notebook."""

    notebook: str
    tasks: tuple[TaskResult, ...]

    @property
    def passed(self) -> int:
        """How many tasks passed."""
        return self._count("passed")

    @property
    def failed(self) -> int:
        """How many tasks failed."""
        return self._count("failed")

    @property
    def not_verified(self) -> int:
        """How many checks could not run."""
        return self._count("not verified")

    @property
    def exit_code(self) -> int:
        """0 all passed, 1 some failed, 2 none failed but something could not be checked."""
        return 1 if self.failed else 2 if self.not_verified or not self.tasks else 0

    def to_json(self) -> dict[str, Any]:
        """Plain data: ``notebook``, the three counts, ``exit_code``, and ``tasks`` with one entry a task."""
        return {
            "notebook": self.notebook, "passed": self.passed, "failed": self.failed,
            "not_verified": self.not_verified, "exit_code": self.exit_code,
            "tasks": [task.to_json() for task in self.tasks],
        }  # fmt: skip

    def _count(self, status: str) -> int:
        return sum(task.status == status for task in self.tasks)


def check_notebook(path: Path | str, *, on_progress: Callable[[float, str], None] | None = None) -> CheckReport:
    """Check every task. NotebookError where the file is no notebook, or no exercise of this lab."""
    path = Path(path)
    exercise = solution_for(path)
    cells = _learners_cells(path, exercise)
    results = []
    with Checker() as checker:
        for number, task in enumerate(exercise.tasks):
            if on_progress is not None:
                on_progress(number / len(exercise.tasks), f"{exercise.id}/{task.name}")
            if not any(name == task.name for name, _ in cells):
                message = (
                    f"The cell of this task (tagged task:{task.name}) is not in the notebook. Lay the exercise again."
                )
                results.append(TaskResult(task=f"{exercise.id}/{task.name}", status="failed", message=message))
                continue
            names = [each.name for each in exercise.until(task)]
            until = [(name, source) for name, source in cells if name in names]
            results.append(grade(checker, exercise, task, until, sys_path=[str(path.resolve().parent)]))
    return CheckReport(notebook=str(path), tasks=tuple(results))


def grade(checker: Checker, exercise: Exercise, task: Task, cells: Cells | None = None, **how: Any) -> TaskResult:
    """Judge one answer and find its hint. how: what ``judging.judge`` takes besides."""
    name = f"{exercise.id}/{task.name}"
    reason = unmet_need(task)
    if reason:
        return TaskResult(task=name, status="not verified", message=reason)
    outcome = judge(checker, exercise, task, cells, **how)
    hint = ""
    if outcome["status"] == "failed" and outcome["kind"] not in ("unsolved", "syntax"):
        wrongs = [(wrong, judge(checker, exercise, task, wrong_answer(exercise, task, wrong))) for wrong in task.wrong]
        hint = hint_for(outcome, wrongs)
    return TaskResult(
        task=name, status=outcome["status"], message=outcome["message"], hint=hint, seconds=outcome["seconds"]
    )


def _learners_cells(path: Path, exercise: Exercise) -> Cells:
    """The learner's source of each task, in order: cells with the task's tag, or with the id of its cell."""
    if path.resolve() == exercise.path.resolve():
        return [(task.name, answer_of(task)) for task in exercise.tasks]
    found = cells_of(read_notebook(path))
    told = []
    for task in exercise.tasks:
        ids = {cell.id for cell in task.cells}
        sources = [
            cell.source
            for cell in found
            if cell.kind == "code" and (cell.id in ids or (cell.role, cell.task) == ("task", task.name))
        ]
        if sources:
            told.append((task.name, "\n\n".join(sources)))
    return told
