"""The ranks of one launch on this machine: children of one guard."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.launch.forked import ForkedGuard, fork_guard
from labkit.launch.guarded import Guarded

__all__ = ["WORKER", "Ranks", "defaults", "place_in_world"]

WORKER = Path(__file__).parent / "worker.py"


class Ranks(Guarded):
    """Use it as a context manager. The ranks read ``folder`` and leave there what they have to say.

    forks: from a process that has loaded torch, where that can be; else each is a command of its own.
    """

    stack_s = 0.3  # to write down where they are
    others_s = 1.0  # after a rank failed: long enough for the one that really caused it to be noticed
    _forks = False

    def __init__(
        self,
        folder: Path,
        *,
        ranks: int,
        name: str,
        deadline_s: float,
        num_threads: int,
        env: Mapping[str, str],
        portable: bool,
        forks: bool,
    ) -> None:
        try:
            here: str | None = os.getcwd()
        except FileNotFoundError:  # removed meanwhile: then it is inherited as it is
            here = None
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        children: list[dict[str, Any]] = [
            {
                "argv": [sys.executable, "-P", str(WORKER), str(folder)],
                "env": {
                    **os.environ,
                    **defaults(num_threads, loopback),
                    **env,
                    **place_in_world(rank, rank, ranks, ranks),
                },
                "cwd": here,
                "log": str(folder / f"rank-{rank}.log"),
            }
            for rank in range(ranks)
        ]
        super().__init__(children, name=name, kind="launch", deadline_s=deadline_s, scratch=[folder], portable=portable)
        self._forks = forks and not portable

    def _start_guard(self, spec: Path) -> subprocess.Popen[bytes] | ForkedGuard:
        forked = fork_guard(spec, self._children[0]["env"]) if self._forks else None
        return super()._start_guard(spec) if forked is None else forked

    def stage(self) -> str:
        """What they wait for before they can start; "" for nothing."""
        return ""

    def unplaced(self) -> str:
        """What was wanted and what there is, as long as there is no place for them."""
        return ""


def defaults(num_threads: int, interface: str) -> dict[str, str]:
    """A rank's environment unless the caller says otherwise."""
    return {"OMP_NUM_THREADS": str(num_threads), "PYTHONUNBUFFERED": "1", "GLOO_SOCKET_IFNAME": interface}


def place_in_world(rank: int, local_rank: int, ranks: int, local_ranks: int) -> dict[str, str]:
    """A rank's environment as torchrun sets it, and LABKIT_RANK and LABKIT_WORLD_SIZE."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "LABKIT_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(local_ranks),
        "LABKIT_WORLD_SIZE": str(ranks),
    }
