"""What a supervised job says while it runs: a line an event, each with the machine's own monotonic time."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Worker", "read_events", "run_attempt"]


class Worker:
    """Handed to the job's function. ``noticed`` becomes true when the instance is about to be reclaimed."""

    def __init__(self, told: Path) -> None:
        self._file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.noticed = False
        signal.signal(signal.SIGTERM, self._notice)
        self._tell("born", os.getpid())

    def ready(self, done: int) -> None:
        """The job is set up; it goes on behind ``done`` units of work, which are kept."""
        self._tell("ready", done)

    def did(self, done: int) -> None:
        """One more unit is computed: ``done`` of them in all."""
        self._tell("did", done)

    def saving(self, done: int) -> None:
        """A save of the first ``done`` units begins."""
        self._tell("saving", done)

    def saved(self, done: int) -> None:
        """From here on no reclaim takes them away."""
        self._tell("saved", done)

    def _notice(self, *_: Any) -> None:
        self.noticed = True

    def _tell(self, what: str, value: int) -> None:
        # One write, so that a kill leaves a whole line or none.
        os.write(self._file, (json.dumps([time.monotonic(), what, value]) + "\n").encode())


def run_attempt(told: str, fn: Callable[..., Any], args: Sequence[Any]) -> Any:
    """What runs in the rank: fn(worker, *args). Its value comes back where nothing ended it."""
    return fn(Worker(Path(told)), *args)


def read_events(path: Path, start: int = 0) -> tuple[list[tuple[float, str, int]], int]:
    """(time, what, value) of each whole line from byte ``start`` on, and the byte behind them."""
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        whole = file.read().rpartition(b"\n")[0]
    events = [(float(at), str(what), int(value)) for at, what, value in map(json.loads, whole.splitlines())]
    return events, start + len(whole) + bool(whole)
