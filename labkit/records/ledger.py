"""The rows of claims and predictions, each function inside its caller's transaction."""

from __future__ import annotations

import json
import sqlite3

from labkit.errors import UsageError
from labkit.records.claims import Claim, Verdict
from labkit.records.predictions import Prediction, Score

__all__ = ["add_note", "decide", "fix", "fixed", "predict", "predicted", "score", "scored"]


def add_note(write: sqlite3.Connection, run_id: str, entry: str) -> None:
    """entry: a JSON object whose keys replace those of the run's notes."""
    (notes,) = write.execute("SELECT notes FROM runs WHERE id = ?", (run_id,)).fetchone()
    write.execute("UPDATE runs SET notes = ? WHERE id = ?", (json.dumps(json.loads(notes) | json.loads(entry)), run_id))


def _claim(write: sqlite3.Connection, run_id: str, claim_id: str) -> tuple[Claim, bool] | None:
    """The claim as it was fixed, and whether it has been decided."""
    row = write.execute(
        "SELECT statement, rule, quantity, unit, notebook, decided_by, decided_at IS NOT NULL FROM claims "
        "WHERE run_id = ? AND id = ?",
        (run_id, claim_id),
    ).fetchone()
    if row is None:
        return None
    statement, rule, quantity, unit, notebook, kinds, decided = row
    kept = Claim(
        id=claim_id, statement=statement, rule=rule, quantity=quantity, unit=unit, notebook=notebook,
        decided_by=tuple(kinds.split(",")),
    )  # fmt: skip
    return kept, bool(decided)


def fix(write: sqlite3.Connection, run_id: str, claim: Claim, *, notebook: str, now: float) -> None:
    """Keep a claim with the time; UsageError where the id stands for another claim, or is decided already."""
    before = _claim(write, run_id, claim.id)
    if before is None:
        write.execute(
            "INSERT INTO claims (run_id, id, notebook, statement, quantity, unit, rule, fixed_at, decided_by) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (run_id, claim.id, notebook, claim.statement, claim.quantity, claim.unit, claim.rule, now,
             ",".join(claim.decided_by)),
        )  # fmt: skip
        return
    kept, decided = before
    for name in ("rule", "statement", "quantity", "unit", "decided_by"):
        if getattr(kept, name) != getattr(claim, name):
            raise UsageError(
                f"Claim {claim.id} was fixed with the {name} {getattr(kept, name)!r}; got {getattr(claim, name)!r}. "
                "A claim stays as it was before the measurement: start a new run to test another."
            )
    if decided:
        raise UsageError(
            f"Claim {claim.id} has been decided in this run, and a rule is fixed before the measurement. "
            "Start a new run to test it again."
        )


def fixed(write: sqlite3.Connection, run_id: str, claim_id: str) -> Claim:
    """The claim that `fix` kept; UsageError where there is none."""
    found = _claim(write, run_id, claim_id)
    if found is None:
        raise UsageError(f"Claim {claim_id!r} was not fixed in this run. Fix its rule before measuring.")
    return found[0]


def decide(write: sqlite3.Connection, run_id: str, verdict: Verdict, *, now: float) -> None:
    """Keep the verdict; the count says how often the claim was decided."""
    write.execute(
        "UPDATE claims SET figure = ?, low = ?, high = ?, verdict = ?, reason = ?, decided_at = ?, "
        "num_decisions = num_decisions + 1 WHERE run_id = ? AND id = ?",
        (verdict.figure, verdict.low, verdict.high, verdict.verdict, verdict.reason, now, run_id, verdict.claim_id),
    )


def predict(write: sqlite3.Connection, run_id: str, prediction: Prediction, *, now: float) -> None:
    """Keep a guess, in place of an earlier one of the same id."""
    write.execute(
        "INSERT OR REPLACE INTO predictions (run_id, id, question, unit, low, high, source, made_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (run_id, prediction.id, prediction.question, prediction.unit, prediction.low, prediction.high,
         prediction.source, now),
    )  # fmt: skip


def predicted(write: sqlite3.Connection, run_id: str, prediction_id: str) -> Prediction:
    """The guess; UsageError where there is none."""
    row = write.execute(
        "SELECT question, unit, low, high, source FROM predictions WHERE run_id = ? AND id = ?",
        (run_id, prediction_id),
    ).fetchone()
    if row is None:
        raise UsageError(f"No prediction {prediction_id!r} was made in this run. Run its cell first.")
    question, unit, low, high, source = row
    return Prediction(id=prediction_id, question=question, unit=unit, low=low, high=high, source=source)


def scored(write: sqlite3.Connection, run_id: str, prediction_id: str) -> bool:
    """Whether the answer is known already."""
    row = write.execute(
        "SELECT scored_at IS NOT NULL FROM predictions WHERE run_id = ? AND id = ?", (run_id, prediction_id)
    ).fetchone()
    return bool(row and row[0])


def score(write: sqlite3.Connection, run_id: str, score: Score, *, now: float) -> None:
    """Keep a score."""
    write.execute(
        "UPDATE predictions SET figure = ?, hit = ?, off_by = ?, scored_at = ? WHERE run_id = ? AND id = ?",
        (float(score.figure.value), score.hit, score.off_by, now, run_id, score.prediction.id),
    )
