"""Where bytes come from: this machine's own files, or a storage behind a link as slow as one likes."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from labkit.errors import DataError, UsageError
from labkit.launch import OwnedProcess

__all__ = ["LOCAL", "LocalStorage", "RemoteStorage", "Storage", "StoragesInTurn", "ThrottledStorage"]

# A request: length of the path, offset, bytes wanted (-1: all that follow). The answer: bytes to come, or minus errno.
REQUEST, ANSWER = struct.Struct(">Hqq"), struct.Struct(">q")
STARTS_WITHIN_S, LIVES_S = 30.0, 4 * 3600.0


class Storage(Protocol):
    """All that a dataset needs to know of one."""

    def read(self, path: Path, offset: int = 0, num_bytes: int = -1) -> bytes: ...


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """This machine's own files; what was read lately lies in its page cache."""

    def read(self, path: Path, offset: int = 0, num_bytes: int = -1) -> bytes:
        """``num_bytes`` from ``offset`` on, all that follow if it is -1. DataError: a file that lacks them."""
        try:
            with path.open("rb", buffering=0) as file:
                wanted = os.fstat(file.fileno()).st_size - offset if num_bytes < 0 else num_bytes
                found = os.pread(file.fileno(), max(0, wanted), offset)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}). Prepare the data again.") from error
        return _whole(path, found, wanted)


LOCAL = LocalStorage()


@dataclass(frozen=True, slots=True)
class RemoteStorage:
    """One end of a connection to a `ThrottledStorage`. Each process and thread that reads has a connection of its own,
    so a dataset can hold this one and be sent to workers."""

    address: str

    def read(self, path: Path, offset: int = 0, num_bytes: int = -1) -> bytes:
        """The same bytes as `LocalStorage.read`, when they have come. The caller waits for its socket, as for a real
        storage: whoever reads ahead in another process or thread computes meanwhile."""
        name = os.fsencode(path)
        try:
            connection = _connected(self.address)
            connection.sendall(REQUEST.pack(len(name), offset, num_bytes) + name)
            (size,) = ANSWER.unpack(_receive(connection, ANSWER.size))
            if size < 0:
                raise DataError(f"{path} cannot be read ({os.strerror(-size)}). Prepare the data again.")
            found = bytes(_receive(connection, size))
        except OSError as error:
            _forget(self.address)
            raise DataError(f"The storage at {self.address} is gone: {error}. Read inside its `with` block.") from error
        return _whole(path, found, size if num_bytes < 0 else num_bytes)


class StoragesInTurn:
    """So many reads from the first storage, as many from the next, and round again. Each process counts for itself."""

    def __init__(self, storages: Sequence[Storage], reads_each: int) -> None:
        if not storages or reads_each < 1:
            raise UsageError(f"At least one storage, and one read from each; got {len(storages)} and {reads_each}.")
        self.storages, self.reads_each, self._reads = tuple(storages), reads_each, 0

    def read(self, path: Path, offset: int = 0, num_bytes: int = -1) -> bytes:
        storage = self.storages[self._reads // self.reads_each % len(self.storages)]
        self._reads += 1
        return storage.read(path, offset, num_bytes)


class ThrottledStorage:
    """Serves this machine's files at ``bytes_per_s`` to all readers together, each request ``latency_s`` late.

    ``with ThrottledStorage(20e6, 0.005) as storage: storage.read(path)``. A process of its own paces the bytes, so
    nothing sleeps in the reader. Requests of several readers wait for their latency side by side and share the rate.
    UsageError: a rate that is zero, negative or not finite, a negative latency.
    """

    def __init__(self, bytes_per_s: float, latency_s: float = 0.0) -> None:
        if not 0 < bytes_per_s < math.inf:
            raise UsageError(f"bytes_per_s must be above 0 and finite; got {bytes_per_s}. 20e6 is a slow share.")
        if not 0 <= latency_s < math.inf:
            raise UsageError(f"latency_s must be at least 0 and finite; got {latency_s}. 0.005 is a near object store.")
        self.bytes_per_s, self.latency_s = bytes_per_s, latency_s
        self._folder: Path | None = None
        self._server: OwnedProcess | None = None

    def __enter__(self) -> RemoteStorage:
        if self._server is not None:
            raise UsageError("This storage is open already. Make a second ThrottledStorage for a second link.")
        self._folder = Path(tempfile.mkdtemp(prefix="labkit-storage-"))
        address = self._folder / "socket"
        rate, lag = repr(float(self.bytes_per_s)), repr(float(self.latency_s))
        command = [sys.executable, "-m", "labkit.loader.storage_server", str(address), rate, lag]
        self._server = OwnedProcess(
            command, name="throttled storage", kind="server", deadline_s=LIVES_S, scratch=[self._folder]
        )
        self._server.__enter__()
        until = time.monotonic() + STARTS_WITHIN_S
        while not address.exists():
            if self._server.poll() is not None or time.monotonic() > until:
                said = self._server.log_tail()
                self.__exit__(None, None, None)
                raise DataError(f"The throttled storage did not start. It said last: {said or 'nothing'}")
            time.sleep(0.005)
        return RemoteStorage(str(address))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._folder is not None:
            _forget(str(self._folder / "socket"))
            self._server.__exit__(kind, error, trace)
            shutil.rmtree(self._folder, ignore_errors=True)
        self._server = self._folder = None


class _Kept(dict[tuple[int, str], socket.socket]):
    """A thread's connections by (process, address); they are closed when the thread ends."""

    def __del__(self) -> None:
        for connection in self.values():
            connection.close()


_own = threading.local()


def _connected(address: str) -> socket.socket:
    """This thread's connection. A forked worker inherits its parent's and must not speak through it."""
    kept: _Kept = _own.__dict__.setdefault("kept", _Kept())
    key = (os.getpid(), address)
    if key not in kept:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        kept[key] = connection
    return kept[key]


def _forget(address: str) -> None:
    kept: _Kept = _own.__dict__.get("kept", _Kept())
    for key in [key for key in kept if key[1] == address]:
        with contextlib.suppress(OSError):
            kept.pop(key).close()


def _receive(connection: socket.socket, num_bytes: int) -> bytearray:
    found = bytearray(num_bytes)
    view, have = memoryview(found), 0
    while have < num_bytes:
        came = connection.recv_into(view[have:])
        if not came:
            raise ConnectionError("it closed the connection")
        have += came
    return found


def _whole(path: Path, found: bytes, wanted: int) -> bytes:
    if len(found) != max(0, wanted):
        raise DataError(f"{path} ends early: {wanted:,} bytes were wanted, {len(found):,} are there. Prepare it again.")
    return found
