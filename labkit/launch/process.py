"""A child process that is owned: with its block, its owner or its deadline it ends, and all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from labkit.errors import LaunchError, UsageError
from labkit.launch import registry

__all__ = ["Guarded", "OwnedProcess"]

GUARD = Path(__file__).parent / "guard.py"


class Guarded:
    """Several commands under one guard. Use it as a context manager."""

    def __init__(
        self,
        children: Sequence[Mapping[str, Any]],
        *,
        name: str,
        kind: str,
        deadline_s: float | None = None,
        grace_s: float = 2.0,
    ) -> None:
        if not children or not all(child["argv"] for child in children):
            raise UsageError("A process needs a command; got an empty one.")
        self._children = [dict(child) for child in children]
        self._spec = {"owner": os.getpid(), "grace_s": grace_s, "deadline_s": deadline_s}
        self.name, self.kind, self.grace_s = name, kind, grace_s
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Guarded:
        self._folder = tempfile.TemporaryDirectory(prefix="labkit-guard-")
        spec_file = Path(self._folder.name) / "spec.json"
        status = Path(self._folder.name) / "status.jsonl"
        spec_file.write_text(json.dumps({**self._spec, "status": str(status), "children": self._children}))
        try:
            # -I -S: no site-packages, no user settings; only the standard library, in about 15 ms.
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(spec_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            registry.register(self._guard.pid, kind=self.kind, name=self.name, owner_pid=os.getpid())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def guard(self) -> subprocess.Popen[bytes]:
        if self._guard is None:
            raise LaunchError(f"{self.name} has not been started. Use it in a with statement.")
        return self._guard

    def ended(self) -> dict[int, tuple[int, float]]:
        """Children that ended by themselves so far: index -> (exit code or minus the signal, time.time())."""
        assert self._folder is not None
        status = Path(self._folder.name) / "status.jsonl"
        ended = {}
        for line in status.read_text().splitlines() if status.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):  # a line still being written
                event = json.loads(line)
                if "failed" in event:
                    raise LaunchError(f"{self.name} could not be started: {event['failed']}")
                ended[int(event["rank"])] = (int(event["code"]), float(event["at"]))
        return ended

    def close(self) -> None:
        """End everything, and return when it has ended. Safe to call twice, and when nothing was started."""
        guard = self._guard
        if guard is not None:
            with contextlib.suppress(BrokenPipeError):
                if guard.stdin is not None:
                    guard.stdin.close()  # the guard's signal to end its children
            try:
                guard.wait(timeout=self.grace_s + 5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(guard.pid, 9)
                guard.wait()
            registry.forget(guard.pid)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class OwnedProcess(Guarded):
    """One command, owned: ``with OwnedProcess([...], name="…", kind="server") as server: …``

    env is laid over this process's environment. log: a file that its output is appended to (default: a temporary one).
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        name: str,
        kind: str,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        log: str | Path | None = None,
        deadline_s: float | None = None,
        grace_s: float = 2.0,
    ) -> None:
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.log = Path(log) if log is not None else Path(os.devnull)
        child = {
            "argv": [str(part) for part in command],
            "env": {**os.environ, **(env or {})},
            "cwd": str(cwd) if cwd is not None else None,
            "log": str(self.log),
        }
        self._keeps_log = log is not None
        super().__init__([child], name=name, kind=kind, deadline_s=deadline_s, grace_s=grace_s)

    def __enter__(self) -> OwnedProcess:
        if not self._keeps_log:
            self._scratch = tempfile.TemporaryDirectory(prefix="labkit-log-")
            self.log = Path(self._scratch.name) / "log"
            self._children[0]["log"] = str(self.log)
        super().__enter__()
        return self

    @property
    def pid(self) -> int:
        """The guard's pid, which is also the id of the process group."""
        return self.guard.pid

    def poll(self) -> int | None:
        """The exit code once it has ended (128 + signal if by a signal), else None."""
        return self.guard.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it ends; its exit code. TimeoutError when it goes on."""
        try:
            return self.guard.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout_s} s.") from None

    def log_tail(self, num_lines: int = 20) -> str:
        """The last lines that it printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-num_lines:])

    def close(self) -> None:
        super().close()
        if self._scratch is not None:
            self._scratch.cleanup()
