"""One recorded experiment: what, with which config, on which machine, from which code, giving which figures."""

from __future__ import annotations

import json
import sqlite3
from types import TracebackType
from typing import TYPE_CHECKING, Any

from labkit.errors import UsageError
from labkit.measure import Figure
from labkit.records.claims import Claim, Verdict, judge
from labkit.records.predictions import Prediction, Score, grade

if TYPE_CHECKING:
    from labkit.records.store import Records

__all__ = ["Run"]


class Run:
    """Started by `Records.start_run`. Every call below is one committed transaction: what returned is on the disk.

    As a context manager it ends as "ok", or as "failed" when the block raises; in a notebook call `finish` at the end.
    """

    def __init__(self, records: Records, run_id: str, name: str) -> None:
        self._records, self.id, self.name = records, run_id, name

    def __repr__(self) -> str:
        return f"Run({self.name!r}, id={self.id!r})"

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish("ok" if error is None else "failed")

    def finish(self, status: str = "ok") -> None:
        """Mark the run as ended: "ok" or "failed"."""
        if status not in ("ok", "failed"):
            raise UsageError(f'A run ends as "ok" or "failed"; got {status!r}.')
        with self._records.transaction() as write:
            write.execute("UPDATE runs SET status = ?, ended_at = ? WHERE id = ?", (status, self._now(), self.id))

    def log(self, *figures: Figure) -> None:
        """Keep figures with the run, all of them in one transaction."""
        rows = []
        for figure in figures:
            data = figure.to_dict()
            rows.append(
                (self.id, figure.name, figure.kind, figure.value, figure.unit, data.get("low"), data.get("high"),
                 json.dumps(data), self._now())
            )  # fmt: skip
        with self._records.transaction() as write:
            write.executemany("INSERT INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def note(self, key: str, value: Any) -> None:
        """Keep any plain data under a name."""
        with self._records.transaction() as write:
            notes = json.loads(write.execute("SELECT notes FROM runs WHERE id = ?", (self.id,)).fetchone()[0])
            notes[key] = value
            write.execute("UPDATE runs SET notes = ? WHERE id = ?", (json.dumps(notes), self.id))

    def fix(self, *claims: Claim) -> None:
        """Write down claims and their rules before anything is measured. Fixing the same claim again changes nothing;
        another rule under a fixed id is refused."""
        with self._records.transaction() as write:
            for claim in claims:
                fixed = write.execute(
                    "SELECT rule, statement FROM claims WHERE run_id = ? AND id = ?", (self.id, claim.id)
                ).fetchone()
                if fixed is None:
                    write.execute(
                        "INSERT INTO claims "
                        "(run_id, id, notebook, statement, quantity, unit, rule, fixed_at, decided_by) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (self.id, claim.id, claim.notebook or self.name, claim.statement, claim.quantity, claim.unit,
                         claim.rule, self._now(), ",".join(claim.decided_by)),
                    )  # fmt: skip
                elif tuple(fixed) != (claim.rule, claim.statement):
                    raise UsageError(
                        f"Claim {claim.id} was fixed with the rule {fixed[0]!r}; got {claim.rule!r}. "
                        "A rule stays as it was before the measurement: start a new run to test another."
                    )

    def decide(self, claim_id: str, figure: Figure) -> Verdict:
        """Hold a figure against the claim's rule. Deciding again (a cell run twice) is kept and counted."""
        with self._records.transaction() as write:
            rule, kinds = self._fixed(write, claim_id)
            if figure.kind not in kinds.split(","):
                raise UsageError(
                    f"Claim {claim_id} is decided by figures that are {kinds}; got a {figure.kind} one. "
                    "Measure it, or say `decided_by` in the claim."
                )
            verdict = judge(claim_id, rule, figure)
            self._store(write, verdict)
        return verdict

    def cannot(self, claim_id: str, reason: str) -> Verdict:
        """This machine cannot decide the claim; the reason stands in the ledger."""
        if not reason.strip():
            raise UsageError(f"Claim {claim_id} needs a reason why it is not measurable here.")
        verdict = Verdict(claim_id=claim_id, verdict="not measurable here", reason=reason)
        with self._records.transaction() as write:
            self._fixed(write, claim_id)
            self._store(write, verdict)
        return verdict

    def predict(self, prediction: Prediction) -> None:
        """Write down a guess. It may change until it is scored."""
        with self._records.transaction() as write:
            if self._scored(write, prediction.id):
                raise UsageError(
                    f"Prediction {prediction.id} has been scored already: a guess comes before the answer."
                )
            write.execute(
                "INSERT OR REPLACE INTO predictions (run_id, id, question, unit, low, high, source, made_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (self.id, prediction.id, prediction.question, prediction.unit, prediction.low, prediction.high,
                 prediction.source, self._now()),
            )  # fmt: skip

    def score(self, prediction_id: str, figure: Figure) -> Score:
        """Hold the guess against the figure; the first score counts for the learner's calibration."""
        with self._records.transaction() as write:
            row = write.execute(
                "SELECT question, unit, low, high, source FROM predictions WHERE run_id = ? AND id = ?",
                (self.id, prediction_id),
            ).fetchone()
            if row is None:
                raise UsageError(f"No prediction {prediction_id!r} was made in this run. Run its cell first.")
            question, unit, low, high, source = row
            prediction = Prediction(id=prediction_id, question=question, unit=unit, low=low, high=high, source=source)
            score = grade(prediction, figure)
            if not self._scored(write, prediction_id):
                write.execute(
                    "UPDATE predictions SET figure = ?, hit = ?, off_by = ?, scored_at = ? WHERE run_id = ? AND id = ?",
                    (figure.value, score.hit, score.off_by, self._now(), self.id, prediction_id),
                )
        return score

    def _now(self) -> float:
        return self._records.clock()

    def _scored(self, write: sqlite3.Connection, prediction_id: str) -> bool:
        row = write.execute(
            "SELECT scored_at FROM predictions WHERE run_id = ? AND id = ?", (self.id, prediction_id)
        ).fetchone()
        return row is not None and row[0] is not None

    def _fixed(self, write: sqlite3.Connection, claim_id: str) -> tuple[str, str]:
        row = write.execute(
            "SELECT rule, decided_by FROM claims WHERE run_id = ? AND id = ?", (self.id, claim_id)
        ).fetchone()
        if row is None:
            raise UsageError(f"Claim {claim_id!r} was not fixed in this run. Fix its rule before measuring.")
        return str(row[0]), str(row[1])

    def _store(self, write: sqlite3.Connection, verdict: Verdict) -> None:
        write.execute(
            "UPDATE claims SET figure = ?, low = ?, high = ?, verdict = ?, reason = ?, decided_at = ?, "
            "num_decisions = num_decisions + 1 WHERE run_id = ? AND id = ?",
            (verdict.figure, verdict.low, verdict.high, verdict.verdict, verdict.reason, self._now(), self.id,
             verdict.claim_id),
        )  # fmt: skip
