"""claims.json: what the notebooks of one run decided, read back from the records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labkit.records import Records, write_durably

__all__ = ["claims_of", "undecided", "write_claims"]

_FIELDS = (
    "id", "notebook", "statement", "rule", "figure", "verdict", "reason", "low", "high", "unit", "quantity",
    "machine_id", "fixed_at", "decided_at",
)  # fmt: skip


def claims_of(group: str) -> list[dict[str, Any]]:
    """The claims fixed under a run group, as plain JSON data, in the order in which they were fixed."""
    with Records() as records:
        frame = records.claims()
    mine = frame[frame["run_group"] == group][list(_FIELDS)]
    rows: list[dict[str, Any]] = json.loads(mine.to_json(orient="records", date_format="iso"))
    return rows


def undecided(claims: list[dict[str, Any]], why: str) -> list[dict[str, Any]]:
    """The claims, those that were fixed and never decided filled in with the reason."""
    return [
        claim if claim["verdict"] else {**claim, "verdict": "not measurable here", "reason": why} for claim in claims
    ]


def write_claims(folder: Path, claims: list[dict[str, Any]]) -> None:
    write_durably(folder / "claims.json", (json.dumps(claims, indent=1, ensure_ascii=False) + "\n").encode())
