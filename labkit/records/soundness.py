"""Is a records file whole? Looked at without writing to it; and copies that are whole or not there at all."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from labkit.errors import TornRecordsError
from labkit.records.files import REAL, FileSystem, replace_durably

__all__ = ["copy_durably", "look", "newest_sound_backup", "primary_code", "torn_message"]

_CHECKED_BYTES = 32 * 2**20  # up to here a whole check at opening takes some 25 ms


def look(path: Path) -> int | None:
    """The schema version of a file, without touching it; None where there is nothing yet to look at.

    A small file is checked whole. A large one only where a log beside it says that it was not closed, or is in use.
    Raises TornRecordsError, or SQLite's own error where the file is locked. The connection cannot write: closing
    another kind would fold a log into a damaged file.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    if not size:
        return None
    log = path.with_name(path.name + "-wal")
    unclosed = log.exists() and log.stat().st_size > 0
    try:
        with closing(_read_only(path)) as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if size <= _CHECKED_BYTES or unclosed:
                found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if found != "ok":
                    raise TornRecordsError(torn_message(path, found))
            return version
    except sqlite3.OperationalError as error:
        if primary_code(error) == sqlite3.SQLITE_BUSY:
            raise
        return None  # a rollback journal that only a writer may replay: opening for writing succeeds, or says more
    except sqlite3.DatabaseError as error:
        raise TornRecordsError(torn_message(path, str(error))) from error


def _read_only(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    query = "mode=ro&immutable=1" if immutable else "mode=ro"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{query}", uri=True, timeout=0)


def primary_code(error: sqlite3.Error) -> int:
    """SQLITE_BUSY for each of its variants, and so on; 0 where the error is Python's own."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def torn_message(path: Path, what: str) -> str:
    """What is wrong with a damaged file, and how to go on from the newest sound backup beside it."""
    aside = (
        f"Move it away, with {path.name}-wal and {path.name}-shm if they are there (an old log would spoil a new file)"
    )
    backup = newest_sound_backup(path)
    cure = (
        f"and copy the newest sound backup, {backup}, to its place" if backup else "to start anew: no backup is there"
    )
    told = " ".join(what.split())
    return f"{path} is damaged ({told}). It was left as it is. {aside}, {cure}; or set LABKIT_HOME to another folder."


def newest_sound_backup(path: Path) -> Path | None:
    """The newest whole copy among ``records.*.sqlite`` beside ``records.sqlite``."""
    found = [copy for copy in path.parent.glob(f"{path.stem}.*{path.suffix}") if copy != path]
    for copy in sorted(found, key=lambda file: file.stat().st_mtime_ns, reverse=True):
        with suppress(sqlite3.Error, OSError), closing(_read_only(copy, immutable=True)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version and connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                return copy
    return None


def copy_durably(source: sqlite3.Connection, target: Path, *, fs: FileSystem = REAL) -> None:
    """A consistent copy of what is committed, also while others write; under its name only when it is whole.

    Raises NoSpaceError, and leaves nothing, when the disk is full.
    """

    def write(scratch: Path) -> None:
        try:
            with closing(sqlite3.connect(scratch)) as copy:
                source.backup(copy)
        except sqlite3.Error as error:
            if primary_code(error) == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise

    replace_durably(target, write, fs=fs)
