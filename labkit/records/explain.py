"""SQLite's errors in the lab's words: what happened, what is safe, what to do."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import LockedRecordsError, NoSpaceError, RecordsError, TornRecordsError
from labkit.hardware import free_bytes
from labkit.records.soundness import primary_code, torn_message

__all__ = ["explained", "holders"]

# On a full disk SQLite cannot grow its shared memory either, and then says no more than "disk I/O error".
_SQUEEZED_BYTES = 64 * 2**10


@contextmanager
def explained(path: Path, busy_timeout_s: float) -> Iterator[None]:
    """Raise NoSpaceError, LockedRecordsError, TornRecordsError or RecordsError in place of sqlite3's errors."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path, busy_timeout_s) from error


def _explain(error: sqlite3.Error, path: Path, busy_timeout_s: float) -> RecordsError | NoSpaceError:
    code = primary_code(error)
    cramped = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and free_bytes(path) < _SQUEEZED_BYTES
    if code == sqlite3.SQLITE_FULL or cramped:
        return NoSpaceError(
            f"No space is left for {path}; what it held before is unchanged. Free some space "
            "(`labkit clean` helps) and run the cell again."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LockedRecordsError(
            f"{path} was held by another process for {busy_timeout_s:g} s{_open_in(path)}. "
            "Close what holds it, and run the cell again; nothing was lost."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return TornRecordsError(torn_message(path, str(error)))
    return RecordsError(f"{path} cannot be used: {error}. Check its permissions, or set LABKIT_HOME elsewhere.")


def _open_in(path: Path) -> str:
    pids = holders(path)
    return f" (open in {', '.join(f'pid {pid}' for pid in pids)})" if pids else ""


def holders(path: Path) -> list[int]:
    """The other processes that have the file open, as far as this user may see."""
    import psutil

    wanted, pids = os.path.realpath(path), set()
    for process in psutil.process_iter():
        try:
            if any(file.path == wanted for file in process.open_files()):
                pids.add(process.pid)
        except (psutil.Error, OSError):
            continue
    return sorted(pids - {os.getpid()})
