"""Reading a solution notebook, and refusing one that is not whole: every fault names its cell."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from labkit.errors import NotebookError
from labkit.exercises.source import Cell, Exercise, Task, Wrong
from labkit.units import GIB

__all__ = ["cells_of", "read", "read_notebook"]

ROLES = ("after", "box", "check", "picture", "task", "wrong")
DEADLINE_S = 20.0
MEMORY_GIB = 1.0
TASK_KEYS = {"answer", "deadline_s", "difficulty", "memory_gib", "minutes", "needs", "proves", "target"}
DIALECT = "The dialect is told in labkit/exercises/__init__.py."


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook's JSON; NotebookError where the file is none. Not by nbformat, whose import takes a second."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if notebook["nbformat"] != 4 or not isinstance(notebook["cells"], list):
            raise ValueError("it is not of format 4")
    except FileNotFoundError:
        raise NotebookError(f"{path} does not exist. Name an .ipynb file.", notebook=str(path)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotebookError(f"{path} is not a notebook that can be read: {error}.", notebook=str(path)) from None
    return dict(notebook)


def cells_of(notebook: dict[str, Any]) -> tuple[Cell, ...]:
    """The cells of a notebook's JSON, with the role that each one's tag gives it."""
    found = []
    for number, raw in enumerate(notebook["cells"], 1):
        metadata = raw.get("metadata", {})
        tags = tuple(metadata.get("tags", ()))
        role, task = "", ""
        for tag in tags:
            head, _, tail = tag.partition(":")
            if (head in ROLES and tail) or tag in ("setup", "hidden"):
                role, task = head, tail
        source = raw["source"] if isinstance(raw["source"], str) else "".join(raw["source"])
        found.append(
            Cell(
                number=number, id=raw.get("id", ""), kind=raw["cell_type"], role=role, task=task, tags=tags,
                source=source, metadata=metadata,
            )
        )  # fmt: skip
    return tuple(found)


def read(path: Path) -> Exercise:
    """Read a solution; NotebookError with the cell's number where it is not one, or not a whole one."""
    notebook = read_notebook(path)
    cells = cells_of(notebook)
    names = list(dict.fromkeys(cell.task for cell in cells if cell.role == "task"))
    if not names:
        raise NotebookError(
            f"{path} is no exercise: no cell is tagged task:NAME. Name an exercise, a work copy of one or a solution.",
            notebook=str(path),
        )
    for cell in cells:
        if cell.role in ROLES and cell.task not in names:
            raise _fault(path, f"is tagged {cell.role}:{cell.task}, but no cell is tagged task:{cell.task}", cell)
        if not cell.id:
            raise _fault(path, "has no id", cell)
        for what in ("SOLUTION", "HIDDEN TESTS"):
            marks = re.findall(f"(BEGIN|END) {what}", cell.source)
            if marks != ["BEGIN", "END"] * (len(marks) // 2):
                raise _fault(path, f"must close each ### BEGIN {what} with ### END {what}", cell)
    number = re.match(r"\d+", path.name)
    metadata = dict(notebook["metadata"])
    name = metadata.get("labkit", {}).get("id") or (number.group() if number else path.stem)
    return Exercise(
        path=path,
        id=str(name),
        cells=cells,
        tasks=tuple(_task(path, name, [cell for cell in cells if cell.task == name]) for name in names),
        metadata=metadata,
    )


def _task(path: Path, name: str, cells: list[Cell]) -> Task:
    def of(role: str, kind: str) -> list[Cell]:
        found = [cell for cell in cells if cell.role == role]
        for cell in found:
            if cell.kind != kind:
                raise _fault(path, f"is tagged {role}:{name} and must be a {kind} cell, not {cell.kind}", cell)
        return found

    filled, checks, boxes = of("task", "code"), of("check", "code"), of("box", "markdown")
    pictures, after = of("picture", "code"), of("after", "markdown")
    if not any("BEGIN SOLUTION" in cell.source for cell in filled):
        raise _fault(path, "must mark its solution by ### BEGIN SOLUTION and ### END SOLUTION", filled[0])
    for role, found in (("check", checks), ("box", boxes)):
        if len(found) != 1:
            raise _fault(path, f"task {name} must have one cell tagged {role}:{name}; it has {len(found)}", filled[0])
    if not after or len(pictures) > 1:
        raise _fault(path, f"task {name} must have an after:{name} cell and at most one picture:{name}", filled[0])
    told = boxes[0].metadata.get("labkit", {}).get("task", {})
    missing, unknown = {"difficulty", "minutes", "proves", "target"} - told.keys(), told.keys() - TASK_KEYS
    if missing or unknown or told["difficulty"] not in range(1, 6):
        raise _fault(
            path,
            f"metadata labkit.task must have difficulty (1 to 5), minutes, proves and target; "
            f"missing: {sorted(missing)}, unknown: {sorted(unknown)}",
            boxes[0],
        )
    if "def check(" not in checks[0].source:
        raise _fault(path, "must define check(grader, answer)", checks[0])
    wrong = []
    for cell in of("wrong", "code"):
        hint = cell.metadata.get("labkit", {}).get("hint", "")
        if not hint:
            raise _fault(path, "is a wrong answer and needs its own hint as metadata labkit.hint", cell)
        wrong.append(Wrong(id=cell.id, source=cell.source, hint=hint))
    return Task(
        name=name,
        difficulty=told["difficulty"],
        minutes=told["minutes"],
        proves=told["proves"],
        target=told["target"],
        answer=told.get("answer") or _last_name(path, filled[-1]),
        deadline_s=float(told.get("deadline_s", DEADLINE_S)),
        memory_bytes=int(told.get("memory_gib", MEMORY_GIB) * GIB),
        needs=tuple(told.get("needs", ())),
        cells=tuple(filled),
        check=checks[0],
        wrong=tuple(wrong),
        after="\n\n".join(cell.source for cell in after),
        picture=pictures[0] if pictures else None,
    )


def _last_name(path: Path, cell: Cell) -> str:
    """The name that a task's cell binds last at top level: what the learner must define."""
    try:
        body = ast.parse(cell.source).body
    except SyntaxError as error:
        raise _fault(path, f"is not Python: {error}", cell) from None
    for node in reversed(body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            return node.name
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name):
                return target.id
    raise _fault(path, "defines no name that could be the answer; set labkit.task.answer in the box", cell)


def _fault(path: Path, what: str, cell: Cell) -> NotebookError:
    return NotebookError(f"{path.name}, cell {cell.number} {what}. {DIALECT}", notebook=str(path), cell=cell.number)
