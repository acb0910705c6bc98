"""The processes below this one: started, found, signalled, ended, reaped. Standard library only: the guard's half."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["Family", "descendants"]

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
FORCE_S = 5.0  # a process in an uninterruptible wait dies when that ends, and must not hold us up until then


def descendants(root: int) -> list[int]:
    """Every living process below ``root``, by /proc: those that changed their session or lost their parent as well."""
    children: dict[int, list[int]] = {}
    dead = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # it ended while we looked
            children.setdefault(int(fields[1]), []).append(int(name))
            if fields[0] in b"ZX":
                dead.add(int(name))
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return [pid for pid in found if pid not in dead]


class Family:
    """What this process has started, and all that came of it.

    On Linux it adopts what its descendants orphan, so that /proc shows them all, and its children get SIGKILL should
    it be killed itself. portable: do only what every POSIX system can; then each child leads a process group.
    fork: what a fork of this process does in place of the child's command; it never returns.
    """

    def __init__(self, *, portable: bool, fork: Callable[[dict[str, Any]], NoReturn] | None = None) -> None:
        self.portable = portable
        self.fork = fork
        self.started: list[int] = []
        self.codes: dict[int, int] = {}  # pid -> exit code, or minus the signal
        self._libc = None if portable else ctypes.CDLL(None, use_errno=True)
        if self._libc is not None:
            self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self, child: dict[str, Any]) -> int:
        """Start ``child`` (argv, env, cwd, log); its pid."""
        libc, guard = self._libc, os.getpid()

        def die_with_us() -> None:
            assert libc is not None
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # we were killed before the line above
                os._exit(1)

        if self.fork is not None:
            pid = os.fork()
            if pid == 0:
                try:
                    die_with_us()
                    self.fork(child)
                finally:
                    os._exit(1)
            self.started.append(pid)
            return pid
        with open(child["log"], "ab", buffering=0) as log:
            process = subprocess.Popen(
                child["argv"],
                env=child["env"],
                cwd=child["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=None if libc is None else die_with_us,
                process_group=0 if self.portable else -1,
            )
        self.started.append(process.pid)
        process.returncode = 0  # we reap by ourselves; Popen need not
        return process.pid

    def reap(self) -> None:
        """Collect every ended child, adopted ones too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.codes[pid] = os.waitstatus_to_exitcode(status)

    def reaped(self, pid: int) -> bool:
        self.reap()
        return pid in self.codes

    def left(self) -> list[int]:
        """Who is still there: everybody below us, or (portable) our own children."""
        self.reap()
        if self.portable:
            return [pid for pid in self.started if pid not in self.codes]
        return descendants(os.getpid())

    def signal(self, number: signal.Signals) -> None:
        """Send it to everybody. Who belongs to another user (sudo) is out of reach."""
        send, whom = (os.killpg, self.started) if self.portable else (os.kill, self.left())
        for pid in whom:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(pid, number)

    def end(self, grace_s: float) -> None:
        """TERM, wait for grace_s, then KILL until nobody is left."""
        self.signal(signal.SIGTERM)
        until = time.monotonic() + grace_s
        while self.left() and time.monotonic() < until:
            time.sleep(0.02)
        until = time.monotonic() + FORCE_S
        self.signal(signal.SIGKILL)
        while self.left() and time.monotonic() < until:
            time.sleep(0.01)
            self.signal(signal.SIGKILL)
