"""The kill drill: a real training job, killed at seeded random points of writing, publishing and pruning, and resumed.

What must hold after every kill: each committed checkpoint that retention keeps is whole, and the next attempt resumes
at one of them, to the bit. At the end: every loss is that of a run that nobody interrupted.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.errors import LaunchError, UsageError
from labkit.launch import OwnedProcess
from labkit.measure import OnProgress

__all__ = ["Drill", "kill_drill"]

TICK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """kills: those that struck. committed: publications that had returned. lost: of them, not whole though kept.

    torn_restored: resumed with a state that no step of the uninterrupted run had. left_behind: staged folders found.
    """

    kills: int
    committed: int
    lost: int
    torn_restored: int
    bit_exact: bool
    left_behind: int
    where: dict[str, int]
    seed: int

    @property
    def passed(self) -> bool:
        return not self.lost and not self.torn_restored and self.bit_exact

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def kill_drill(
    kills: int = 40, *, seed: int = 0, deadline_s: float = 600.0, on_progress: OnProgress | None = None
) -> Drill:
    """Half of the kills on one rank, half on two. LaunchError: the drill itself failed, with what it said."""
    if kills < 1 or seed < 0:
        raise UsageError(f"A drill needs at least 1 kill and a seed of at least 0; got {kills} and {seed}.")
    with tempfile.TemporaryDirectory(prefix="labkit-drill-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "labkit.checkpoint.drill_process", name, str(kills), str(seed)]
        env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        with OwnedProcess(command, name="checkpoint drill", kind="ranks", env=env, deadline_s=deadline_s) as process:
            while process.poll() is None:
                time.sleep(TICK_S)
                _report(folder, kills, on_progress)
            code, said = process.poll(), process.log_tail()
        if code != 0 or not (folder / "result.json").exists():
            raise LaunchError(f"The drill ended with exit code {code} before it was done:\n{said}")
        _report(folder, kills, on_progress)
        return Drill(**json.loads((folder / "result.json").read_text()))


def _report(folder: Path, kills: int, on_progress: OnProgress | None) -> None:
    if on_progress is None or not (folder / "kills").exists():
        return
    struck = (folder / "kills").stat().st_size
    on_progress(min(1.0, struck / kills), f"{struck} of {kills} kills")
