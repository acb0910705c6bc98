"""The checking server: a program that loads packages once, then judges each answer in a forked process of its own.

Started by ``process.Checker`` as ``python -m labkit.exercises.worker``; a JSON line in is a job, a JSON line out its
outcome. It ends when its input ends, and takes the process that it is judging with it. Where a fork is not safe (macOS)
each job is a fresh Python instead.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from labkit.exercises import bounds
from labkit.exercises.job import Job, run_job

__all__ = ["main"]

PREPARE_S = 120.0  # given code and imports, before the answer's own deadline starts


def main() -> int:
    """Serve jobs until the input ends; with ``--job`` be the fresh process of one job."""
    replies = os.dup(1)
    os.dup2(2, 1)  # what a package prints while it loads must not stand among the replies
    if "--job" in sys.argv:
        _be_the_job(json.loads(sys.stdin.readline()), replies)
    bounds.adopt_orphans()
    while line := sys.stdin.readline():
        fields = json.loads(line)
        outcome = _supervise(fields)
        bounds.end_descendants()
        if outcome is None:
            return 0
        os.write(replies, json.dumps(outcome).encode() + b"\n")
    return 0


def _supervise(fields: dict[str, Any]) -> dict[str, Any] | None:
    """Run a job in a process of its own within its deadline; None when whoever asked has gone."""
    folder = tempfile.mkdtemp(prefix="labkit-check-")
    started = time.monotonic()
    reader, writer = os.pipe()
    fork = sys.platform == "linux"
    if fork:
        _preload(fields)
    pid = _fork(fields, folder, writer) if fork else _spawn(fields, folder, writer)
    os.close(writer)
    until = [time.monotonic() + PREPARE_S]  # moved when the answer's own deadline starts
    where, ready = "", False
    first: dict[str, Any] | None = None  # a comparison that failed is the story, whatever becomes of the check after it
    outcome: dict[str, Any] | None = None
    try:
        for event in _events(reader, until):
            if event is _GONE:
                return None
            if event is _LATE:
                outcome = first or _late(fields, where, ready)
                break
            if event["event"] == "ready":
                until[0], ready = time.monotonic() + fields["deadline_s"], True
            elif event["event"] == "call":
                where, number = f"\ninput:  {event['text']}", event["number"]
                fields["at_call"] = number
            elif event["event"] == "failure":
                first = event
            else:
                outcome = event
                break  # what the answer started may still hold the pipe
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        shutil.rmtree(folder, ignore_errors=True)
    outcome = outcome or first or _lost(os.waitstatus_to_exitcode(status), where, ready)
    kept = {"at": fields.get("at_call", 0), "outputs": [], "trace": []}
    return {"seconds": time.monotonic() - started} | kept | outcome


_GONE: dict[str, Any] = {"event": "gone"}
_LATE: dict[str, Any] = {"event": "late"}


def _events(reader: int, until: list[float]) -> Iterator[dict[str, Any]]:
    """The job's events as they come, then _GONE when our own input ended, or _LATE at the deadline."""
    pending = b""
    while True:
        left = until[0] - time.monotonic()
        readable = select.select([reader, 0], [], [], max(0.0, left))[0]
        if reader in readable:
            chunk = os.read(reader, 1 << 16)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from map(json.loads, lines)
        elif 0 in readable:  # jobs come one at a time: anything to read now is the end of the input
            yield _GONE
            return
        elif left <= 0:
            yield _LATE
            return


def _late(fields: dict[str, Any], where: str, ready: bool) -> dict[str, Any]:
    if not ready:
        message = f"The exercise's own code took more than {PREPARE_S:g} s before the answer could be tried."
        return {"status": "not verified", "kind": "preparing", "message": message}
    where = where or "\nIt was still in the cell itself."
    message = f"Your code passed the deadline of {fields['deadline_s']:g} s and was ended.{where}"
    return {"status": "failed", "kind": "deadline", "message": message + "\nLook for a loop that never ends."}


def _lost(code: int, where: str, ready: bool) -> dict[str, Any]:
    """The process ended without an outcome: by os._exit, by a signal, or killed by the system."""
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    if not ready:
        message = f"The exercise's own code ended the process {how} before the answer could be tried."
        return {"status": "not verified", "kind": "preparing", "message": message}
    message = f"Your code ended its process {how} before the check was done.{where}"
    return {"status": "failed", "kind": "died", "message": message}


def _preload(fields: dict[str, Any]) -> None:
    """Import what the exercise's own code imports, once for all. What fails here fails again, and is told, there."""
    for _, source in [*fields["setup"], *fields["reference"], ("", fields["check"])]:
        with contextlib.suppress(SyntaxError):
            for node in ast.walk(ast.parse(source)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                for name in names:
                    with contextlib.suppress(Exception):
                        importlib.import_module(name)


def _fork(fields: dict[str, Any], folder: str, writer: int) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            bounds.die_with_parent(parent)
            _settle(folder)
            _be_the_job(fields, writer)
        finally:
            os._exit(70)  # never back into the server's loop
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # from both sides: whoever is first
    return pid


def _spawn(fields: dict[str, Any], folder: str, writer: int) -> int:
    command = [sys.executable, "-P", "-m", "labkit.exercises.worker", "--job"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writer, start_new_session=True, cwd=folder)
    assert child.stdin is not None
    child.stdin.write(json.dumps(fields).encode() + b"\n")
    child.stdin.close()
    child.returncode = 0  # it is reaped by pid, as a fork is
    return child.pid


def _settle(folder: str) -> None:
    """An own folder, lab home and silence: what an answer prints or records is not what is judged."""
    os.chdir(folder)
    os.environ["LABKIT_HOME"] = os.path.join(folder, "lab")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def _be_the_job(fields: dict[str, Any], writer: int) -> None:
    def emit(event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        while line:
            line = line[os.write(writer, line) :]

    _settle(os.getcwd())
    emit({"event": "outcome"} | run_job(Job(**fields), emit))
    os._exit(0)  # threads that an answer left running are not waited for


if __name__ == "__main__":
    sys.exit(main())
