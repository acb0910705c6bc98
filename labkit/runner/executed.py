"""Reading an executed notebook, finished or not: how far it came, and why it failed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from labkit.records import write_durably

__all__ = ["cells_done", "failure", "mark_failure", "unfinished_cell", "widget_failures"]

_ADDED_BY_PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}
_TRACEBACK_LINES = 12


def _cells(out: Path) -> list[dict[str, Any]]:
    """The notebook's own cells as far as they are written; papermill saves while it goes."""
    try:
        cells: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, OSError):
        return []
    return [cell for cell in cells if not _ADDED_BY_PAPERMILL & set(cell.get("metadata", {}).get("tags", ()))]


def _papermill(cell: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = cell.get("metadata", {}).get("papermill", {})
    return told


def cells_done(out: Path) -> tuple[int, int]:
    """(completed, all)."""
    cells = _cells(out)
    return sum(_papermill(cell).get("status") == "completed" for cell in cells), len(cells)


def mark_failure(out: Path, number: int | None, message: str) -> None:
    """Show in the executed copy why it ended, where the failing cell itself shows no error (it was ended, or died)."""
    try:
        notebook = json.loads(out.read_text(encoding="utf-8"))
    except ValueError:  # torn as it was ended: there is no cell to show it in
        return
    own = [c for c in notebook["cells"] if not _ADDED_BY_PAPERMILL & set(c.get("metadata", {}).get("tags", ()))]
    if number is None or own[number - 1]["cell_type"] != "code":
        return
    outputs = own[number - 1]["outputs"]
    if not any(output["output_type"] == "error" for output in outputs):
        first = message.splitlines()[0]
        outputs.append({"output_type": "error", "ename": "Ended", "evalue": first, "traceback": message.splitlines()})
        write_durably(out, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())


def unfinished_cell(out: Path) -> int | None:
    """The number, from 1, of the cell that failed, or that was running when the end came."""
    cells = [_papermill(cell) for cell in _cells(out)]
    failed = [number for number, cell in enumerate(cells, 1) if cell.get("exception")]
    running = [number for number, cell in enumerate(cells, 1) if cell.get("status") == "running"]
    # A kernel that died leaves its cell marked as completed: it is the last before those that never started.
    ended = [number for number, cell in enumerate(cells, 1) if cell.get("status") == "completed"][-1:]
    return next(iter(failed + running + ended), None)


def failure(file: Path, code: int | None, timed_out: bool, deadline_s: float, tail: str) -> str:
    """Why the notebook failed, for people, with the failing cell's source; empty when it did not."""
    if timed_out:
        return f"not done within {deadline_s:g} s; its kernel and every child were ended. Raise the deadline."
    if file.exists():
        told = json.loads(file.read_text())
        if told["kind"] == "DeadKernel":
            return "the kernel died (killed, out of memory, or it ended itself)."
        source = "\n".join(f"    {line}" for line in str(told["source"]).splitlines())
        trace = "\n".join(_plain("\n".join(told["traceback"])).splitlines()[-_TRACEBACK_LINES:])
        return f"{told['kind']}: {told['message']}\n{source}\n{trace}".rstrip()
    return f"the notebook's process ended with code {code}:\n{tail}" if code else ""


def _plain(text: str) -> str:
    """Without the colours that IPython puts into tracebacks."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def widget_failures(file: Path) -> str:
    """What widgets wrote of their failures; empty when none failed."""
    if not file.exists():
        return ""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return "; ".join(f"the widget {f['where']} failed: {f['error']}: {f['message']}" for f in lines)
