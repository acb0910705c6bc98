"""Figures that others published, transcribed with their source: datasets/published/figures.csv."""

from __future__ import annotations

import csv
from pathlib import Path

from labkit.errors import UsageError
from labkit.measure import Quoted

__all__ = ["published"]

TABLE = Path(__file__).resolve().parents[2] / "datasets" / "published" / "figures.csv"


def published(id: str, *, table: Path = TABLE) -> Quoted:
    """A published figure by its id, with its source."""
    if not table.is_file():
        raise UsageError(
            f"{table} is not there: labkit reads published figures from the lab's checkout. Run it from one."
        )
    with table.open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    if id not in rows:
        raise UsageError(f"No published figure has the id {id!r}. There are: {', '.join(sorted(rows))}.")
    row = rows[id]
    return Quoted(name=row["quantity"], value=float(row["value"]), unit=row["unit"], source=row["source"])
