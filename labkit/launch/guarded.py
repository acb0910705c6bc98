"""Commands under one guard: with their block, their owner or their deadline they end, and all that they started."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkit.errors import LaunchError, UsageError
from labkit.launch import registry
from labkit.launch.forked import ForkedGuard

__all__ = ["Guarded"]

GUARD = Path(__file__).parent / "guard.py"
FORCE_S = 8.0  # beyond the grace; the keeper itself ends a guard that hangs after 5


class Guarded:
    """Several commands under one guard. Use it as a context manager, once.

    children: each argv, env, cwd (or None) and log (or None: a temporary one). scratch: folders that the guard removes
    when this process is killed before it could do so itself. portable: use no Linux feature.
    """

    def __init__(
        self,
        children: Sequence[Mapping[str, Any]],
        *,
        name: str,
        kind: str,
        deadline_s: float | None = None,
        grace_s: float = 2.0,
        scratch: Sequence[Path] = (),
        portable: bool = sys.platform != "linux",
    ) -> None:
        if not children or not all(child["argv"] for child in children):
            raise UsageError("A process needs a command; got an empty one.")
        self._children = [dict(child) for child in children]
        self._spec = {"grace_s": grace_s, "deadline_s": deadline_s, "portable": portable}
        self._scratch = list(scratch)
        self.name, self.kind, self.grace_s = name, kind, grace_s
        self._guard: subprocess.Popen[bytes] | ForkedGuard | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._entry: Path | None = None
        self._fault = b""

    def __enter__(self) -> Self:
        if self._guard is not None:
            raise LaunchError(f"{self.name} has been started before. Make a new one for every with statement.")
        if os.name != "posix":
            raise LaunchError("Processes are owned on Linux and macOS. On Windows, run the lab under WSL.")
        self._folder = tempfile.TemporaryDirectory(prefix="labkit-guard-")
        folder = Path(self._folder.name)
        for index, child in enumerate(self._children):
            child["log"] = child["log"] or str(folder / f"log-{index}")
        self._entry = registry.new_entry()
        to_clear = (*self._scratch, folder, self._entry, registry.unfinished(self._entry))
        spec = {
            **self._spec,
            "owner": os.getpid(),
            "children": self._children,
            "status": str(folder / "status.jsonl"),
            "scratch": [str(path) for path in to_clear],
        }
        try:
            (folder / "spec.json").write_text(json.dumps(spec))
            self._guard = self._start_guard(folder / "spec.json")
            registry.register(self._entry, self._guard.pid, kind=self.kind, name=self.name, grace_s=self.grace_s)
        except BaseException:
            self.close()
            raise
        return self

    def _start_guard(self, spec: Path) -> subprocess.Popen[bytes] | ForkedGuard:
        # -I -S: no site-packages, no user settings; only the standard library, in a few tens of milliseconds.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            # Ctrl-C is the owner's. No session of its own: Linux shares the cores out between sessions first, and a
            # client of a busy server was left waiting up to 60 ms for the core that the server had (measured).
            process_group=0,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def guard(self) -> subprocess.Popen[bytes] | ForkedGuard:
        if self._guard is None:
            raise LaunchError(f"{self.name} has not been started. Use it in a with statement.")
        return self._guard

    def ended(self) -> dict[int, tuple[int, float]]:
        """Children that ended by themselves so far: index -> (exit code or minus the signal, time.monotonic())."""
        ended = {}
        status = Path(self._folder.name) / "status.jsonl" if self._folder is not None else None
        for line in status.read_text().splitlines() if status is not None and status.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):  # a line still being written
                event = json.loads(line)
                if "failed" in event:
                    raise LaunchError(f"{self.name} could not be started: {event['failed']}")
                ended[int(event["rank"])] = (int(event["code"]), float(event["at"]))
        return ended

    def ask_where(self) -> None:
        """Send the children SIGUSR1: one that registered faulthandler for it writes down where it is."""
        assert self.guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.guard.stdin.write(b"s")

    def fault(self) -> str:
        """What went wrong in the guard itself, once it has gone; "" when it was ended from outside."""
        self._drain(time.monotonic())
        return self._fault.decode(errors="replace").strip()

    def _drain(self, until: float) -> bool:
        """Read what the guard says; whether both of its processes have gone by ``until`` (time.monotonic())."""
        assert self.guard.stdout is not None
        while select.select([self.guard.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            said = os.read(self.guard.stdout.fileno(), 4096)
            if not said:
                return True
            self._fault += said
        return False

    def close(self) -> None:
        """End everything, and return when it has ended. Safe to call twice, and when nothing was started."""
        guard = self._guard
        try:
            if guard is not None and guard.stdin is not None and not guard.stdin.closed:
                guard.stdin.close()  # the guard's signal to end its children
                gone = False
                try:
                    gone = self._drain(time.monotonic() + self.grace_s + FORCE_S)
                finally:  # a second Ctrl-C does not wait for the grace
                    if not gone:
                        registry.end_by_force(guard.pid)
                    guard.wait()
                    if guard.stdout is not None:
                        guard.stdout.close()
        finally:
            if self._entry is not None:
                self._entry.unlink(missing_ok=True)
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None
