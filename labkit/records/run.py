"""One recorded experiment: what, with which config, on which machine, from which code, giving which figures."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from labkit.errors import RecordsError, UsageError
from labkit.measure import Figure
from labkit.records import ledger
from labkit.records.claims import Claim, Verdict, judge
from labkit.records.database import Database
from labkit.records.plain import to_json
from labkit.records.predictions import Prediction, Score, grade

__all__ = ["Run"]


class Run:
    """Started by `Records.start_run`. Every call below is one committed transaction: what returned is on the disk.

    As a context manager it ends as "ok", or as "failed" when the block raises; in a notebook call `finish` at the end.
    """

    def __init__(self, database: Database, run_id: str, name: str, *, clock: Callable[[], float]) -> None:
        self._database, self.id, self.name, self._now = database, run_id, name, clock

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
        with self._writing() as write:
            write.execute("UPDATE runs SET status = ?, ended_at = ? WHERE id = ?", (status, self._now(), self.id))

    def log(self, *figures: Figure) -> None:
        """Keep figures with the run, all of them in one transaction."""
        rows = []
        for figure in figures:
            if not hasattr(figure, "to_dict"):
                raise UsageError(
                    f"A run keeps figures (Measured, Simulated, Quoted); got {figure!r}, a {type(figure).__name__}. "
                    "A bare number has no unit and no spread: measure it with labkit.measure.repeat."
                )
            data = figure.to_dict()
            low, high = (None if data.get(end) is None else float(data[end]) for end in ("low", "high"))
            told = to_json(data, "A figure")
            rows.append(
                (self.id, figure.name, figure.kind, float(figure.value), figure.unit, low, high, told, self._now())
            )
        with self._writing() as write:
            write.executemany("INSERT INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def note(self, key: str, value: Any) -> None:
        """Keep any plain data under a name; the last of that name stays."""
        entry = to_json({str(key): value}, f"The note {key!r}")
        with self._writing() as write:
            ledger.add_note(write, self.id, entry)

    def fix(self, *claims: Claim) -> None:
        """Write down claims and their rules before anything is measured.

        Fixing the same claim again (a cell run twice) changes nothing. Another rule under a fixed id, or any fixing
        after the verdict, is a UsageError.
        """
        with self._writing() as write:
            for claim in claims:
                ledger.fix(write, self.id, claim, notebook=claim.notebook or self.name, now=self._now())

    def decide(self, claim_id: str, figure: Figure) -> Verdict:
        """Hold a figure against the claim's rule. Deciding again (a cell run twice) is kept and counted."""
        with self._writing() as write:
            claim = ledger.fixed(write, self.id, claim_id)
            if figure.kind not in claim.decided_by:
                raise UsageError(
                    f"Claim {claim_id} is decided by figures that are {' or '.join(claim.decided_by)}; got a "
                    f"{figure.kind} one. Measure it, or say `decided_by` in the claim."
                )
            _same_unit(f"Claim {claim_id}", claim.unit, figure)
            verdict = judge(claim_id, claim.rule, figure)
            ledger.decide(write, self.id, verdict, now=self._now())
        return verdict

    def cannot(self, claim_id: str, reason: str) -> Verdict:
        """This machine cannot decide the claim; the reason stands in the ledger."""
        if not reason.strip():
            raise UsageError(f"Claim {claim_id} needs a reason why it is not measurable here.")
        verdict = Verdict(claim_id=claim_id, verdict="not measurable here", reason=reason)
        with self._writing() as write:
            ledger.fixed(write, self.id, claim_id)
            ledger.decide(write, self.id, verdict, now=self._now())
        return verdict

    def predict(self, prediction: Prediction) -> None:
        """Write down a guess. It may change until it is scored."""
        with self._writing() as write:
            if ledger.scored(write, self.id, prediction.id):
                raise UsageError(
                    f"Prediction {prediction.id} has been scored already: a guess comes before the answer. "
                    "Start a new run to guess again."
                )
            ledger.predict(write, self.id, prediction, now=self._now())

    def score(self, prediction_id: str, figure: Figure) -> Score:
        """Hold the guess against the figure; the first score counts for the learner's calibration."""
        with self._writing() as write:
            prediction = ledger.predicted(write, self.id, prediction_id)
            _same_unit(f"Prediction {prediction_id}", prediction.unit, figure)
            score = grade(prediction, figure)
            if not ledger.scored(write, self.id, prediction_id):
                ledger.score(write, self.id, score, now=self._now())
        return score

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._database.transaction() as write:
            if write.execute("SELECT 1 FROM runs WHERE id = ?", (self.id,)).fetchone() is None:
                raise RecordsError(
                    f"Run {self.id} ({self.name}) is not in {self._database.path}: the file was put back to an earlier "
                    "state. Start the notebook again from its first cell."
                )
            yield write


def _same_unit(what: str, unit: str, figure: Figure) -> None:
    if unit and figure.unit != unit:
        raise UsageError(f"{what} is in {unit}; got a figure in {figure.unit or 'no unit'}. Give both the same unit.")
