"""One guarded connection to the records file: safe between threads, across forks, and beside other processes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labkit.errors import RecordsError
from labkit.records import schema
from labkit.records.explain import explained
from labkit.records.soundness import copy_durably, primary_code

__all__ = ["Database"]

_RETRY_S = 0.02


class Database:
    """The connection opens at first use, once a process, and one thread at a time uses it.

    It is closed before every fork and reopened after, in parent and child. SQLite keeps a table of locks in the
    process's memory, and a child that inherits one believes itself to hold locks that it does not: even a connection of
    its own then loses commits, when the parent closes and removes the log that the child writes to
    (sqlite.org/howtocorrupt.html, 2.6).
    """

    def __init__(self, path: Path, *, clock: Callable[[], float], busy_timeout_s: float) -> None:
        self.path, self._clock, self._busy_timeout_s = path, clock, busy_timeout_s
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._file = (0, 0)
        with _forking:
            _databases.add(self)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write: everything in the block is committed, and on the disk, when it returns; or nothing is."""
        with self.lock, explained(self.path, self._busy_timeout_s):
            connection = self.open()
            self._refuse_another_file()
            connection.execute("BEGIN IMMEDIATE")
            try:
                schema.refuse_newer(self.path, schema.version_of(connection))  # a newer kernel may have migrated it
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def read(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The columns and rows of one query."""
        with self.lock, explained(self.path, self._busy_timeout_s):
            cursor = self.open().execute(query)
            return [column[0] for column in cursor.description], cursor.fetchall()

    def copy_to(self, target: Path) -> None:
        """A consistent copy, also while others write. NoSpaceError where there is no room for it."""
        with self.lock, explained(self.path, self._busy_timeout_s):
            copy_durably(self.open(), target)

    def open(self) -> sqlite3.Connection:
        """The connection, made when there is none; for a caller that holds the lock."""
        with self.lock:
            if self._connection is None:
                with explained(self.path, self._busy_timeout_s):
                    self._connection = self._patiently()
                self._pid, self._file = os.getpid(), self._identity()
            elif self._pid != os.getpid():
                raise RecordsError(
                    f"This process was forked in the middle of a write to {self.path}, and cannot use it. "
                    "Start a fresh process instead (labkit.launch.run does)."
                )
            return self._connection

    def close(self) -> None:
        """Close the connection. The next use opens another."""
        with self.lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
                self._connection = None

    def park(self) -> None:
        """Before a fork: leave nothing of SQLite's in memory, unless this very thread is in the middle of a write."""
        if self._connection is not None and not self._connection.in_transaction:
            self.close()

    def _patiently(self) -> sqlite3.Connection:
        """Two kernels that open a new file at once can be refused without SQLite's own waiting; so wait here."""
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                return schema.prepare(self._connect, self.path, clock=self._clock)
            except sqlite3.OperationalError as error:
                if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a commit that returned survives a power cut
        return connection

    def _identity(self) -> tuple[int, int]:
        told = self.path.stat()
        return told.st_dev, told.st_ino

    def _refuse_another_file(self) -> None:
        try:
            same = self._identity() == self._file
        except FileNotFoundError:
            same = False
        if not same:
            raise RecordsError(
                f"{self.path} was moved or replaced while this kernel had it open; nothing was written. "
                "Restart the kernel, and run the notebook from its start."
            )


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_forking = threading.Lock()
_parked: list[Database] = []


def _before_fork() -> None:
    _forking.acquire()
    for database in list(_databases):
        database.lock.acquire()
        _parked.append(database)
        database.park()


def _after_fork() -> None:
    while _parked:
        _parked.pop().lock.release()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
