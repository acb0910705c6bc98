"""``labkit exercises build``: exercises/ from solutions/, or what of it is stale."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.errors import NotebookError
from labkit.exercises.generate import generate, picture_hash
from labkit.exercises.judging import picture_job
from labkit.exercises.nodes import text_of
from labkit.exercises.process import Checker
from labkit.exercises.reading import read, read_notebook
from labkit.exercises.source import Exercise, Task

__all__ = ["build", "draw", "is_current"]

PNG = b"\x89PNG\r\n\x1a\n"


def build(
    root: Path | str,
    check: bool = False,
    *,
    redraw: bool = False,
    on_progress: Callable[[float, str], None] | None = None,
) -> list[Path]:
    """Write every stale exercises/NN_name.ipynb and remove those whose solution is gone; the paths that changed.

    check: write nothing, only say what is stale. A picture is drawn anew when what it is drawn from has changed, or
    with ``redraw``; its bytes are never compared, since they differ between machines. NotebookError for a solution that
    is not whole, a picture that cannot be drawn, or a notebook in exercises/ that was not generated.
    """
    root = Path(root)
    solutions = sorted((root / "solutions").glob("*.ipynb"))
    changed = []
    for number, path in enumerate(solutions):
        if on_progress is not None:
            on_progress(number / len(solutions), path.name)
        exercise = read(path)
        target = root / "exercises" / path.name
        if is_current(exercise, target) and not redraw:
            continue
        changed.append(target)
        if not check:
            pictures = {} if redraw else _kept_pictures(exercise, target)
            missing = [task for task in exercise.tasks if task.picture and task.name not in pictures]
            _write(target, text_of(generate(exercise, pictures | draw(exercise, missing))))
    names = {path.name for path in solutions}
    for target in sorted((root / "exercises").glob("*.ipynb")):
        if target.name not in names:
            if "generated_from" not in read_notebook(target)["metadata"].get("labkit", {}):
                raise NotebookError(
                    f"{target} has no solution and was not generated. Write solutions/{target.name} instead.",
                    notebook=str(target),
                )
            changed.append(target)
            if not check:
                target.unlink()
    return changed


def is_current(exercise: Exercise, target: Path) -> bool:
    """The generated file is what its solution gives; its pictures are drawn from what stands there now."""
    pictures = _kept_pictures(exercise, target)
    if any(task.picture and task.name not in pictures for task in exercise.tasks) or not target.is_file():
        return False
    return target.read_text(encoding="utf-8") == text_of(generate(exercise, pictures))


def draw(exercise: Exercise, tasks: list[Task]) -> dict[str, str]:
    """Task name -> base64 of its picture, drawn from the solution in a process of its own."""
    drawn = {}
    with Checker() as checker:
        for task in tasks:
            outcome = checker.run(picture_job(exercise, task))
            if "png" not in outcome:
                raise NotebookError(
                    f"{exercise.path.name}: the picture of {task.name} cannot be drawn. {outcome['message']}",
                    notebook=str(exercise.path),
                    cell=task.picture.number if task.picture else None,
                )
            drawn[task.name] = outcome["png"]
    return drawn


def _kept_pictures(exercise: Exercise, target: Path) -> dict[str, str]:
    """The pictures in a generated file that are still drawn from what the solution holds now."""
    if not target.is_file():
        return {}
    cells: dict[str, dict[str, Any]] = {cell.get("id", ""): cell for cell in read_notebook(target)["cells"]}
    kept = {}
    for task in exercise.tasks:
        if task.picture is None:
            continue
        cell = cells.get(task.picture.id, {})
        png = cell.get("attachments", {}).get(f"{task.name}.png", {}).get("image/png", "")
        if cell.get("metadata", {}).get("labkit", {}).get("picture_hash") == picture_hash(exercise, task) and _is_png(
            png
        ):
            kept[task.name] = png
    return kept


def _is_png(text: str) -> bool:
    try:
        return base64.b64decode(text, validate=True).startswith(PNG)
    except (binascii.Error, ValueError):
        return False


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
