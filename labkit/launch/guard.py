"""Runs commands as their guard: whatever they start is gone when their owner dies, asks, or the deadline passes.

A program of its own, standard library only, started as ``python -I -S guard.py SPEC``, so that it costs milliseconds
and never waits for a lock of the owner's interpreter. SPEC is a JSON file: ``owner`` (pid), ``grace_s``,
``deadline_s`` (or null), ``status`` (a file that gets a JSON line for each child that ended) and ``children`` (each
argv, env, cwd, log).

It leads the session and the process group of its children, and (on Linux) adopts what they orphan, so grandchildren
that left the group are found as well. It exits with its first child's code, or 128 + the signal that ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

__all__ = ["main"]

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform == "linux"


def descendants(root: int) -> list[int]:
    """Every living process below ``root``, by /proc: those that changed their session or lost their parent as well."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # it ended while we looked
            if fields[0] != b"Z":
                children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def signal_all(number: signal.Signals) -> None:
    """Send a signal to every descendant; elsewhere than on Linux to the process group (we ignore it ourselves)."""
    if LINUX:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    elif number != signal.SIGKILL:
        os.killpg(0, number)


def any_left(codes: dict[int, int]) -> bool:
    reap(codes)
    return bool(descendants(os.getpid())) if LINUX else False


def end_all(children: list[subprocess.Popen[bytes]], grace_s: float, codes: dict[int, int]) -> None:
    """TERM, wait, KILL until nothing is left."""
    signal_all(signal.SIGTERM)
    until = time.monotonic() + grace_s
    while time.monotonic() < until and any_left(codes):
        time.sleep(0.02)
    while any_left(codes):
        signal_all(signal.SIGKILL)
        time.sleep(0.01)
    for child in children:
        if not LINUX and child.poll() is None:
            child.kill()


def reap(codes: dict[int, int]) -> None:
    """Collect every ended child, adopted ones too; codes: pid -> exit code (negative: the signal)."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        codes[pid] = os.waitstatus_to_exitcode(status)


def start(child: dict[str, Any], libc: ctypes.CDLL | None) -> subprocess.Popen[bytes]:
    """Start one child; it gets SIGKILL should this guard be killed itself."""

    def in_child() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with open(child["log"], "ab", buffering=0) as log:
        return subprocess.Popen(
            child["argv"],
            env=child["env"],
            cwd=child["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=in_child,
        )


def tell(status: str, event: dict[str, Any]) -> None:
    """One line for the owner."""
    with open(status, "a") as file:
        file.write(json.dumps(event) + "\n")


def main(path: str) -> int:
    with open(path) as file:
        spec = json.load(file)
    libc = ctypes.CDLL(None, use_errno=True) if LINUX else None
    if libc is not None:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    asked: list[int] = []
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, frame: asked.append(got))
    signal.signal(signal.SIGCHLD, lambda got, frame: None)  # only to wake the select below

    owner = None
    if hasattr(os, "pidfd_open"):
        try:
            owner = os.pidfd_open(spec["owner"])
        except OSError:
            asked.append(0)  # the owner has gone already
    children: list[subprocess.Popen[bytes]] = []
    ranks: dict[int, int] = {}
    codes: dict[int, int] = {}
    reported: dict[int, int] = {}
    try:
        for rank, child in enumerate(spec["children"]):
            children.append(start(child, libc))
            ranks[children[-1].pid] = rank
    except OSError as error:
        tell(spec["status"], {"failed": str(error)})
        asked.append(0)
    started = time.monotonic()
    stdin_open = True
    while not asked and len(reported) < len(ranks):
        left = None if spec["deadline_s"] is None else started + spec["deadline_s"] - time.monotonic()
        if left is not None and left <= 0:
            break
        watched = [wake, *([owner] if owner is not None else []), *([0] if stdin_open else [])]
        # The owner's death closes our standard input; where something it forked keeps that open, the pidfd tells, and
        # where there is none, our parent's pid changes.
        ready = select.select(watched, [], [], min(0.5, left) if left is not None else 0.5)[0]
        if wake in ready:
            os.read(wake, 4096)
        gone = owner is not None and owner in ready
        if 0 in ready and not os.read(0, 64):
            gone, stdin_open = True, False
        if gone or (owner is None and os.getppid() != spec["owner"]):
            break
        reap(codes)
        for pid, rank in ranks.items():
            if pid in codes and rank not in reported:
                reported[rank] = codes[pid]
                tell(spec["status"], {"rank": rank, "code": codes[pid], "at": time.time()})
    end_all(children, spec["grace_s"], codes)
    reap(codes)
    first = codes.get(children[0].pid, -signal.SIGKILL) if children else 127
    return first if first >= 0 else 128 - first


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
