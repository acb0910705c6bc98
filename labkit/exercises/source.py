"""What a solution notebook holds: its tasks with their stubs, checks, wrong answers, pictures and explanations."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import NotebookError

__all__ = ["Cell", "Exercise", "Task", "Wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell: ``role`` and ``task`` from its tag ``role:task`` (``setup`` and ``hidden`` have no task)."""

    number: int  # from 1
    id: str
    kind: str  # code | markdown | raw
    role: str
    task: str
    tags: tuple[str, ...]
    source: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A planted wrong answer: ``source`` runs after the solution and overrides it; ``hint`` is its own."""

    id: str
    source: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to build. ``answer`` is the name that the learner's cell must define; ``cells`` hold the solution."""

    name: str
    difficulty: int  # 1 to 5
    minutes: float
    proves: str
    target: str
    answer: str
    deadline_s: float
    memory_bytes: int
    needs: tuple[str, ...]
    cells: tuple[Cell, ...]
    check: Cell
    wrong: tuple[Wrong, ...]
    after: str
    picture: Cell | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """A solution notebook. ``id`` is the lesson's (``"00"``); ``metadata`` is the notebook's own."""

    path: Path
    id: str
    cells: tuple[Cell, ...]
    tasks: tuple[Task, ...]
    metadata: dict[str, Any]

    @property
    def source_hash(self) -> str:
        """Changes with anything that the generated exercise or a check could depend on, not with outputs."""
        told = [[cell.id, cell.kind, cell.source, cell.metadata] for cell in self.cells]
        text = json.dumps([told, self.metadata], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def task(self, name: str) -> Task:
        """The task of that name; NotebookError naming those there are."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise NotebookError(
            f"{self.path.name} has no task {name!r}; it has {', '.join(task.name for task in self.tasks)}.",
            notebook=str(self.path),
        )

    def setup_before(self, task: Task) -> tuple[Cell, ...]:
        """The given code that runs before a task's cells."""
        return tuple(cell for cell in self.cells if cell.role == "setup" and cell.number < task.cells[-1].number)

    def until(self, task: Task) -> tuple[Task, ...]:
        """The tasks before this one, in order, and this one."""
        return self.tasks[: self.tasks.index(task) + 1]
