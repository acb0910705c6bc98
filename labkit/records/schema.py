"""The records' schema, its versions, and the way from each to the next."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from labkit.errors import NewerSchemaError, TornRecordsError

__all__ = ["STEPS", "VERSION", "prepare", "torn_message"]

_TABLES = """
CREATE TABLE machines (id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE runs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, started_at REAL NOT NULL, ended_at REAL, status TEXT NOT NULL,
    config TEXT NOT NULL, code TEXT NOT NULL, machine_id TEXT REFERENCES machines (id)
);
CREATE TABLE measurements (
    run_id TEXT NOT NULL REFERENCES runs (id), name TEXT NOT NULL, kind TEXT NOT NULL, value REAL NOT NULL,
    unit TEXT NOT NULL, low REAL, high REAL, data TEXT NOT NULL, logged_at REAL NOT NULL
);
CREATE INDEX measurements_of_run ON measurements (run_id);
CREATE TABLE claims (
    run_id TEXT NOT NULL REFERENCES runs (id), id TEXT NOT NULL, notebook TEXT NOT NULL, statement TEXT NOT NULL,
    quantity TEXT NOT NULL, unit TEXT NOT NULL, rule TEXT NOT NULL, fixed_at REAL NOT NULL,
    decided_by TEXT NOT NULL, figure REAL, low REAL, high REAL, verdict TEXT, reason TEXT NOT NULL DEFAULT '',
    decided_at REAL,
    PRIMARY KEY (run_id, id)
);
CREATE TABLE predictions (
    run_id TEXT NOT NULL REFERENCES runs (id), id TEXT NOT NULL, question TEXT NOT NULL, unit TEXT NOT NULL,
    low REAL NOT NULL, high REAL NOT NULL, source TEXT NOT NULL, made_at REAL NOT NULL,
    figure REAL, hit INTEGER, off_by REAL, scored_at REAL, PRIMARY KEY (run_id, id)
);
"""

# STEPS[n] leads from version n to n + 1, in one transaction. A step that has landed is never edited: files exist.
_GROUPS = """
ALTER TABLE runs ADD COLUMN run_group TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN notes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE claims ADD COLUMN num_decisions INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_of_group ON runs (run_group);
"""
STEPS = (_TABLES, _GROUPS)
VERSION = len(STEPS)
_CHECKED_BYTES = 32 * 2**20  # up to here a whole check at opening takes milliseconds


def prepare(
    connect: Callable[[], sqlite3.Connection], path: Path, *, clock: Callable[[], float] = time.time
) -> sqlite3.Connection:
    """A connection to a sound file of this version: created, or checked and migrated (after a backup beside it)."""
    connection = connect()
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            raise NewerSchemaError(
                f"{path} was written by a newer labkit (schema {version}; this one knows {VERSION}). Nothing was "
                "changed. Update the lab (git pull, make setup), or set LABKIT_HOME to another folder."
            )
        if path.stat().st_size <= _CHECKED_BYTES:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise TornRecordsError(torn_message(path, found))
        if version < VERSION:
            if version:
                _backup(connection, path.with_name(f"{path.stem}.v{version}-{int(clock())}{path.suffix}"))
            _migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")  # readers and one writer do not wait for each other
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise TornRecordsError(torn_message(path, str(error))) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """All missing steps in one transaction: a process killed in the middle leaves the old version."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        # Another kernel may have been first.
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        for step in STEPS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, VERSION)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _backup(connection: sqlite3.Connection, target: Path) -> None:
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)


def torn_message(path: Path, what: str) -> str:
    """What is wrong with a damaged file, and which backup to go back to."""
    backups = sorted(path.parent.glob(f"{path.stem}.*{path.suffix}"), key=lambda p: p.stat().st_mtime)
    cure = f"Copy the newest backup, {backups[-1]}, over it" if backups else "Move it away to start anew"
    told = " ".join(what.split())
    return f"{path} is damaged ({told}). It was left as it is. {cure}, or set LABKIT_HOME to another folder."
