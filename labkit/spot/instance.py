"""One instance that runs a job's function: started, warned and killed from outside."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit import launch
from labkit.errors import LabError
from labkit.spot.worker import read_events, run_attempt

__all__ = ["TICK_S", "Instance"]

TICK_S = 0.005


class Instance:
    """One attempt that runs: its process behind a thread that waits for it."""

    def __init__(self, kind: int, told: Path, fn: Callable[..., Any], args: tuple[Any, ...], deadline_s: float) -> None:
        self.kind, self.told, self.start_s = kind, told, time.monotonic()
        self.value: Any = None
        self.error: LabError | None = None
        self.noticed = self.killed = False
        self._events: list[tuple[float, str, int]] = []
        self._read = 0  # bytes of what was told
        self.killed_s = math.inf
        self._thread = threading.Thread(target=self._run, args=(fn, args, deadline_s))
        self._thread.start()

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], deadline_s: float) -> None:
        try:
            ran = launch.run(run_attempt, str(self.told), fn, args, ranks=1, backend="gloo", deadline_s=deadline_s)
            self.value = ran.values[0]
        except LabError as error:
            self.error = error

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    @property
    def events(self) -> list[tuple[float, str, int]]:
        """What it has told so far. Only what is new is read: it is asked several times a tick."""
        new, self._read = read_events(self.told, self._read)
        self._events += new
        return self._events

    def finished(self, units: int) -> bool:
        """Its function has returned, and not only because it was told to go."""
        done = max([value for _, what, value in self.events if what in ("ready", "did")] or [0])
        return self.over and self.error is None and (not self.noticed or done >= units)

    def signal(self, number: signal.Signals) -> None:
        """To its rank. One that has not told its number yet is asked again at the next tick."""
        born = [value for _, what, value in self.events if what == "born"]
        if born and not self.over:
            self.noticed = True
            if number == signal.SIGKILL and not self.killed:
                self.killed, self.killed_s = True, time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(born[0], number)  # its guard has not reaped it while the launch goes on

    def kill(self) -> None:
        """SIGKILL as soon as its rank has told its number; back when all of it is gone."""
        while not self.over and not self.killed:
            self.signal(signal.SIGKILL)
            time.sleep(TICK_S / 5)
        self._thread.join()
