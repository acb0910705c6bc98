"""The records' schema, its versions, and the way from each to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from labkit.errors import NewerSchemaError, RecordsError
from labkit.records.files import REAL
from labkit.records.soundness import copy_durably, look

__all__ = ["STEPS", "VERSION", "prepare", "refuse_newer", "version_of"]

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
# What a run needs besides, to be told from another; an environment is kept once for all runs that share it.
_HYGIENE = """
CREATE TABLE environments (id TEXT PRIMARY KEY, data TEXT NOT NULL);
ALTER TABLE runs ADD COLUMN seed TEXT NOT NULL DEFAULT 'null';
ALTER TABLE runs ADD COLUMN data TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN environment_id TEXT NOT NULL DEFAULT '';
"""
STEPS = (_TABLES, _GROUPS, _HYGIENE)
VERSION = len(STEPS)


def prepare(connect: Callable[[], sqlite3.Connection], path: Path, *, clock: Callable[[], float]) -> sqlite3.Connection:
    """A connection to a sound file of this version: created, or checked and migrated (after a backup beside it).

    Raises TornRecordsError, NewerSchemaError, RecordsError; nothing was written then.
    """
    found = look(path)
    if found is not None:
        refuse_newer(path, found)
    connection = connect()
    try:
        refuse_newer(path, version_of(connection))
        if version_of(connection) < VERSION:
            _migrate(connection, connect, path, clock)
            REAL.sync_folder(path.parent)  # a new file's name, too, must outlive a power cut
        connection.execute("PRAGMA journal_mode = WAL")  # readers and one writer do not wait for each other
    except BaseException:
        connection.close()
        raise
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    """The schema that a file has; 0 for an empty one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def refuse_newer(path: Path, version: int) -> None:
    """Raise NewerSchemaError for a file from a later labkit."""
    if version > VERSION:
        raise NewerSchemaError(
            f"{path} was written by a newer labkit (schema {version}; this one knows {VERSION}). Nothing was "
            "changed. Update the lab (git pull, make setup), or set LABKIT_HOME to another folder."
        )


def _migrate(
    connection: sqlite3.Connection, connect: Callable[[], sqlite3.Connection], path: Path, clock: Callable[[], float]
) -> None:
    """All missing steps in one transaction: a process killed in the middle leaves the old version."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection)  # another kernel may have been first
        if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise RecordsError(
                f"{path} is an SQLite file, but not one of the lab's. It was left as it is: name another file."
            )
        if 0 < version < VERSION:
            # Under the lock, so that nobody's copy is of a half or later state; a writer cannot copy itself, so another
            # connection does.
            with closing(connect()) as reader:
                copy_durably(reader, _unused(path.with_name(f"{path.stem}.v{version}-{int(clock())}{path.suffix}")))
        for step in STEPS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, VERSION)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _unused(target: Path) -> Path:
    """The name, or the first numbered one that nothing bears: a backup is never written over."""
    candidate, number = target, 1
    while candidate.exists():
        number += 1
        candidate = target.with_name(f"{target.stem}-{number}{target.suffix}")
    return candidate
