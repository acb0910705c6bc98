"""From a learner's notebook, or a task's id, to the solution that it is checked by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import labkit
from labkit.errors import NotebookError, UsageError
from labkit.exercises.reading import read, read_notebook
from labkit.exercises.source import Exercise

__all__ = ["solution_for", "solution_of_task"]


def solution_for(path: Path) -> Exercise:
    """The solution of an exercise or of a work copy of one (its metadata names it), or the solution that path is."""
    labels = read_notebook(path)["metadata"].get("labkit", {})
    name = labels.get("generated_from")
    if name is None:
        return read(path)
    if not re.fullmatch(r"solutions/[\w.-]+\.ipynb", str(name)):
        raise NotebookError(
            f"{path}: metadata labkit.generated_from must be solutions/NAME.ipynb; got {name!r}.", notebook=str(path)
        )
    for root in _roots(path.resolve().parent):
        if (root / name).is_file():
            return read(root / name)
    raise NotebookError(
        f"{path} was generated from {name}, which is neither above it nor in the lab at {_own_root()}. "
        f"Update the lab, or keep the work copy inside its checkout.",
        notebook=str(path),
    )


def solution_of_task(task_id: str, near: Path) -> tuple[Exercise, str]:
    """``"00/ring"`` -> the solution of lesson 00, found above ``near`` or in labkit's own checkout, and ``"ring"``."""
    lesson, _, name = task_id.partition("/")
    if not re.fullmatch(r"\w+", lesson) or not name:
        raise UsageError(f'A task is named as in "00/NAME"; got {task_id!r}.')
    for root in _roots(near.resolve()):
        found = sorted((root / "solutions").glob(f"{lesson}_*.ipynb"))
        if found:
            return read(found[0]), name
    raise UsageError(f"No exercise of lesson {lesson!r} was found above {near} or in the lab at {_own_root()}.")


def _roots(folder: Path) -> Iterator[Path]:
    yield from (folder, *folder.parents)
    yield _own_root()


def _own_root() -> Path:
    return Path(labkit.__file__).resolve().parents[1]
