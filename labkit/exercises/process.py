"""The asking side of the checking server: one for a whole notebook, an own bounded process for every answer."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import labkit
from labkit.exercises.job import Job

__all__ = ["Checker"]

PATIENCE_S = 150.0  # beyond a job's own deadline: the server's preparing, and then its silence
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Checker:
    """Context manager. Starts its server at the first job and ends it, with whatever it was judging, on exit."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Checker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: Job) -> dict[str, Any]:
        """The job's outcome (``job.run_job`` tells its fields). A server that breaks makes it not verified."""
        if sys.platform == "win32":
            return _not_verified("Checks need Linux, macOS or WSL: on Windows itself learner code cannot be bounded.")
        server = self._server = self._server or _start()
        assert server.stdin is not None
        try:
            server.stdin.write(json.dumps(dataclasses.asdict(job)).encode() + b"\n")
            server.stdin.flush()
            line = _read_line(server, job.deadline_s + PATIENCE_S)
        except BrokenPipeError:
            line = b""
        except BaseException:  # Ctrl-C: nothing goes on
            self.close()
            raise
        if line.endswith(b"\n"):
            return dict(json.loads(line))
        self.close()
        return _not_verified("The checking process did not answer and was ended.")

    def close(self) -> None:
        """End the server; it ends the process that it is judging."""
        server, self._server = self._server, None
        if server is None:
            return
        for pipe in (server.stdin, server.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        try:
            server.wait(3)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _start() -> subprocess.Popen[bytes]:
    # One thread: a fork copies only the thread that forks, and a check compares counts, not speed.
    environment = os.environ | dict.fromkeys(THREADS, "1")
    environment |= {"MPLBACKEND": "agg", "LABKIT_HEADLESS": "1", "PYTHONHASHSEED": "0"}
    paths = [str(Path(labkit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-P", "-m", "labkit.exercises.worker"]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # an own group; it watches us through its input
    )


def _read_line(server: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    """One line, or what there is of it when the server ends or stays silent."""
    assert server.stdout is not None
    line = b""
    while not line.endswith(b"\n") and select.select([server.stdout], [], [], timeout_s)[0]:
        chunk = os.read(server.stdout.fileno(), 1 << 16)
        if not chunk:
            break
        line += chunk
    return line


def _not_verified(message: str) -> dict[str, Any]:
    return {
        "status": "not verified",
        "kind": "process",
        "message": message,
        "at": 0,
        "outputs": [],
        "trace": [],
        "seconds": 0.0,
    }
