"""A guard whose ranks are forked from a process that has loaded torch: a launch takes a part of a second."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ForkedGuard", "end_fork_server", "fork_guard"]

PROGRAM = Path(__file__).parent / "forkserver.py"
# What a library reads once, when it is loaded: where this differs, the ranks need a server of their own.
READ_AT_START = (
    "ATEN_", "BLIS_", "DNNL_", "GLIBC_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_",
    "PYTHON", "TORCH",
)  # fmt: skip
PATIENCE_S = 60.0  # to load torch, on a machine that is busy

_lock = threading.Lock()
_server: _Server | None = None


class ForkedGuard:
    """As much of subprocess.Popen as `Guarded` uses: the keeper is the server's child, and known here by its pidfd."""

    def __init__(self, pid: int, handle: int, stdin: int, stdout: int) -> None:
        self.pid, self._handle = pid, handle
        self.stdin = os.fdopen(stdin, "wb", buffering=0)
        self.stdout = os.fdopen(stdout, "rb", buffering=0)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """0 once it has ended (the server alone knows the code), else None."""
        if self.returncode is None and select.select([self._handle], [], [], 0)[0]:
            self.returncode = 0
            os.close(self._handle)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._handle], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(PROGRAM), timeout or 0.0)
        self.poll()
        return 0


class _Server:
    """The owner's end of a server: it ends with this process, whose death closes the socket, and when it was idle.

    Nothing here complains when the owner ends without a word: the descriptors are bare, and Popen is let go.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.key, self.owner = _key(environment), os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM), str(theirs.fileno()), str(self.owner)],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the owner's
            )
            process.returncode = 0  # reaped in close()
            self.pid, self._handle = process.pid, os.pidfd_open(process.pid)
            self._socket = ours.detach()

    def fork(self, spec: Path) -> ForkedGuard:
        """OSError when it has gone."""
        in_read, in_write = os.pipe()
        out_read, out_write = os.pipe()
        connection = socket.socket(fileno=self._socket)
        try:
            connection.settimeout(PATIENCE_S)
            socket.send_fds(connection, [os.fsencode(spec)], [in_read, out_write])
            said, handles, _, _ = socket.recv_fds(connection, 64, 1)
            if not said:
                raise ConnectionResetError("the fork server has gone")
        except BaseException:
            os.close(in_write)
            os.close(out_read)
            raise
        finally:
            connection.detach()
            os.close(in_read)
            os.close(out_write)
        return ForkedGuard(int(said), handles[0], in_write, out_read)

    def close(self) -> None:
        os.close(self._socket)
        if self.owner == os.getpid():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)  # it holds nothing but loaded modules
                os.waitpid(self.pid, 0)
        os.close(self._handle)


def fork_guard(spec: Path, environment: Mapping[str, str]) -> ForkedGuard | None:
    """Start the guard of ``spec`` by this process's fork server, made where there is none that fits ``environment``.

    None where that cannot be: no Linux, no pidfd, a sandbox without sockets. A server that has ended since (it was
    idle, or killed) is replaced once.
    """
    global _server
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None
    with _lock:
        for _ in range(2):
            try:
                if _server is None or (_server.key, _server.owner) != (_key(environment), os.getpid()):
                    _end()
                    _server = _Server(environment)
                return _server.fork(spec)
            except OSError:
                _end()
            except BaseException:  # Ctrl-C in the midst of a request: its answer may still come
                _end()
                raise
    return None


def end_fork_server() -> None:
    """End it now; the next launch starts another."""
    with _lock:
        _end()


def _end() -> None:
    global _server
    if _server is not None:
        with contextlib.suppress(OSError):
            _server.close()
        _server = None


def _key(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
