"""What a run of notebooks gave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["NotebookReport", "RunReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookReport:
    """One notebook. out: the executed copy; error: why it failed, for people; failing_cell: its number from 1."""

    path: Path
    out: Path
    duration_s: float
    error: str = ""
    failing_cell: int | None = None

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """All notebooks of one run, and the claims that they decided (as in claims.json)."""

    notebooks: tuple[NotebookReport, ...]
    claims: tuple[dict[str, Any], ...]

    @property
    def ok(self) -> bool:
        return all(notebook.ok for notebook in self.notebooks)
