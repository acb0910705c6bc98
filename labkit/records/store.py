"""The records file: one SQLite database, safe for several kernels at once; a run whose call returned is never lost."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from labkit.errors import LockedRecordsError, NetworkHomeError, NoSpaceError, RecordsError, TornRecordsError, UsageError
from labkit.hardware import Machine, filesystem_type, is_network_filesystem, lab_home, machine
from labkit.records import schema
from labkit.records.code import fingerprint
from labkit.records.run import Run

if TYPE_CHECKING:
    import pandas

__all__ = ["Records"]


class Records:
    """path: default ``lab_home()/records.sqlite``. Each process and thread gets a connection of its own."""

    schema_version = schema.VERSION

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        busy_timeout_s: float = 30.0,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.path = Path(path) if path is not None else lab_home() / "records.sqlite"
        self.clock, self._busy_timeout_s, self._new_id = clock, busy_timeout_s, new_id
        if self.path.is_dir():
            raise UsageError(f"The records are a file; {self.path} is a folder.")
        if not self.path.parent.is_dir():
            raise UsageError(f"The records' folder {self.path.parent} does not exist. Make it, or name another.")
        if is_network_filesystem(self.path.parent):
            raise NetworkHomeError(
                f"{self.path} would lie on {filesystem_type(self.path.parent)}, a network filesystem, where SQLite's "
                "locks cannot be trusted. Set LABKIT_HOME to a folder on a local disk."
            )
        self._local = threading.local()
        self._connection()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close this thread's connection. Using the records again opens another."""
        connection = getattr(self._local, "connection", None)
        if connection is not None and self._local.pid == os.getpid():
            connection.close()
        self._local.connection = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a commit that returned survives a power cut
        return connection

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection. After a fork the parent's is left alone: SQLite forbids sharing it."""
        if getattr(self._local, "connection", None) is None or self._local.pid != os.getpid():
            with self._explained():
                self._local.connection = schema.prepare(self._connect, self.path, clock=self.clock)
            self._local.pid = os.getpid()
        return self._local.connection  # type: ignore[no-any-return]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write: everything in the block is committed, or nothing."""
        connection = self._connection()
        with self._explained():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as ours, with what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.DatabaseError) -> RecordsError | NoSpaceError:
        text = str(error)
        if "full" in text:
            return NoSpaceError(
                f"No space is left for {self.path}; what it held before is unchanged. Free some space "
                "(`labkit clean` helps) and run the cell again."
            )
        if "locked" in text or "busy" in text:
            return LockedRecordsError(
                f"{self.path} was held by another process for {self._busy_timeout_s:g} s{_holders(self.path)}. "
                "Close what holds it, and run the cell again; nothing was lost."
            )
        if "malformed" in text or "not a database" in text:
            return TornRecordsError(schema.torn_message(self.path, text))
        return RecordsError(f"{self.path} cannot be used: {text}. Check its permissions, or set LABKIT_HOME elsewhere.")

    def start_run(
        self,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        machine: Machine | None = None,
        code: Mapping[str, Any] | None = None,
    ) -> Run:
        """Begin a run. config: plain data. machine, code: taken from here when left out."""
        here = machine if machine is not None else _this_machine()
        try:
            text = json.dumps(dict(config or {}))
        except (TypeError, ValueError) as error:
            raise UsageError(f"A run's config is plain data (numbers, texts, lists); {error}.") from error
        run_id = self._new_id()
        with self.transaction() as write:
            write.execute("INSERT OR IGNORE INTO machines VALUES (?, ?)", (here.id, json.dumps(here.to_dict())))
            write.execute(
                "INSERT INTO runs (id, name, started_at, status, config, code, machine_id, run_group) "
                "VALUES (?, ?, ?, 'running', ?, ?, ?, ?)",
                (run_id, name, self.clock(), text, json.dumps(dict(code) if code is not None else fingerprint()),
                 here.id, os.environ.get("LABKIT_RUN_GROUP", "")),
            )  # fmt: skip
        return Run(self, run_id, name)

    def runs(self) -> pandas.DataFrame:
        """A row a run: id, name, started_at, ended_at, status, machine_id, run_group; config, code, notes (dicts)."""
        return self._frame("SELECT * FROM runs ORDER BY started_at", ("config", "code", "notes"))

    def measurements(self) -> pandas.DataFrame:
        """A row a figure: run_id, run, name, kind, value, unit, low, high, data (the figure as a dict), logged_at."""
        return self._frame(
            "SELECT m.*, r.name AS run, r.machine_id FROM measurements m JOIN runs r ON r.id = m.run_id "
            "ORDER BY m.rowid",
            ("data",),
        )

    def claims(self) -> pandas.DataFrame:
        """A row a claim and run, in the order in which they were fixed, with rule, figure, verdict and reason."""
        return self._frame(
            "SELECT c.*, r.machine_id, r.run_group FROM claims c JOIN runs r ON r.id = c.run_id ORDER BY c.rowid"
        )

    def predictions(self) -> pandas.DataFrame:
        """A row a prediction and run; hit is missing until it is scored."""
        return self._frame(
            "SELECT p.*, r.name AS run FROM predictions p JOIN runs r ON r.id = p.run_id ORDER BY p.rowid"
        )

    def _frame(self, query: str, parsed: tuple[str, ...] = ()) -> pandas.DataFrame:
        import pandas

        with self._explained():
            cursor = self._connection().execute(query)
            rows = cursor.fetchall()
        frame = pandas.DataFrame(rows, columns=[column[0] for column in cursor.description])
        for name in parsed:
            frame[name] = [json.loads(text) for text in frame[name]]
        for name in frame.columns:
            if name.endswith("_at"):
                frame[name] = pandas.to_datetime(frame[name].astype("float64"), unit="s", utc=True)
            elif name in ("figure", "low", "high", "value", "off_by"):
                frame[name] = frame[name].astype("float64")
            elif name == "hit":
                frame[name] = frame[name].astype("boolean")
        return frame

    def backup(self, path: str | Path) -> Path:
        """A consistent copy, also while others write."""
        target = Path(path)
        with self._explained(), closing(sqlite3.connect(target)) as copy:
            self._connection().backup(copy)
        return target


def _this_machine() -> Machine:
    return machine()


def _holders(path: Path) -> str:
    """Who has the file open, as far as this user may see."""
    import psutil

    pids = set()
    for process in psutil.process_iter():
        try:
            if any(file.path == str(path) for file in process.open_files()):
                pids.add(process.pid)
        except (psutil.Error, OSError):
            continue
    others = sorted(pids - {os.getpid()})
    return f" (open in {', '.join(f'pid {pid}' for pid in others)})" if others else ""
