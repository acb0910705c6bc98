"""The same check, live in a cell: the answer is carried by value into a checking process, its feedback shown."""

from __future__ import annotations

import linecache
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.exercises.check import TaskResult, grade
from labkit.exercises.locate import solution_of_task
from labkit.exercises.process import Checker

__all__ = ["Feedback", "check"]

MARKS = {"passed": "✓", "failed": "✗", "not verified": "–"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a cell shows: mark, message, hint and, after passing, the explanation (markdown).

    It has a markdown view and no HTML one: a front end would prefer HTML, in which formulas stay raw.
    """

    result: TaskResult
    after: str = ""

    @property
    def passed(self) -> bool:
        """The check ran to its end and every comparison held."""
        return self.result.status == "passed"

    def _repr_markdown_(self) -> str:
        parts = [f"**{MARKS[self.result.status]} {self.result.task}: {self.result.status}**"]
        if self.result.message:
            fence = "`" * 4  # values may hold anything but this
            parts.append(f"{fence}text\n{self.result.message.replace(fence, '')}\n{fence}")
        if self.result.hint:
            parts.append(f"*Hint:* {self.result.hint}")
        return "\n\n".join([*parts, *([f"---\n\n{self.after}"] if self.after else [])])

    def __repr__(self) -> str:
        hint = [f"hint: {self.result.hint}"] if self.result.hint else []
        lines = [f"{MARKS[self.result.status]} {self.result.task}: {self.result.status}", self.result.message, *hint]
        return "\n\n".join(["\n".join(filter(None, lines)), *([self.after] if self.after else [])])


def check(task_id: str, answer: Any, *, near: Path | None = None) -> Feedback:
    """Check one answer: ``exercises.check("00/ring", ring_all_reduce)``.

    answer: the function, class or value that the task asks for, with whatever of the notebook it refers to.
    near: where to look upwards for solutions/ (default: the current folder). Raises UsageError for an unknown lesson
    and NotebookError for an unknown task. The attempt is recorded where records can be written.
    """
    import cloudpickle

    exercise, name = solution_of_task(task_id, near or Path.cwd())
    task = exercise.task(name)
    try:
        pickled = cloudpickle.dumps(answer)
    except Exception as error:  # whatever an answer holds on to: a lock, a file, a connection
        message = f"Your answer cannot be carried into the checking process: {type(error).__name__}: {error}"
        result = TaskResult(task=task_id, status="not verified", message=message)
    else:
        paths = [str(Path(folder or ".").resolve()) for folder in sys.path]
        with Checker() as checker:
            result = grade(checker, exercise, task, pickled=pickled, sources=_sources(answer), sys_path=paths)
    _record(result)
    return Feedback(result=result, after=task.after if result.status == "passed" else "")


def _sources(answer: Any) -> dict[str, str]:
    """Filename -> text of the cells in which the answer was written, so that a failing line can be shown."""
    members = list(vars(answer).values()) if isinstance(answer, type) else [answer]
    names = {member.__code__.co_filename for member in members if isinstance(member, types.FunctionType)}
    return {name: "".join(linecache.getlines(name)) for name in sorted(names)}


def _record(result: TaskResult) -> None:
    """Keep the attempt as a run. That records cannot be written here is told by `labkit doctor`, not by an exercise."""
    try:
        from labkit.records import Records

        with Records() as records, records.start_run(f"exercise {result.task}", config={"task": result.task}) as run:
            run.note("status", result.status)
            run.note("message", result.message)
            run.note("hint", result.hint)
    except Exception:
        return
