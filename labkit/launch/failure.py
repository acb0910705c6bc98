"""Which rank really failed: the first by its own clock, and not those that only noticed that a peer had gone."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from labkit.errors import LaunchError, RankError

__all__ = ["Failure", "first_failure", "raise_failure"]

# What gloo and nccl raise in a rank whose peer has died.
PEER_WORDS = ("connection closed", "connection reset", "peer", "socket closed", "remote process exited", "broken pipe")
LOG_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How one rank failed. code: exit code, or minus the signal, of a rank that left no error of its own."""

    rank: int
    at: float
    type: str = ""
    message: str = ""
    traceback: str = ""
    code: int = 0

    @property
    def noticed_a_peer(self) -> bool:
        return bool(self.traceback) and any(word in self.message.lower() for word in PEER_WORDS)


def first_failure(folder: Path, ranks: int, ended: Mapping[int, tuple[int, float]]) -> Failure:
    """The failure to report. A rank that only lost its peer comes after one that crashed, whatever their clocks say:
    a crash is noticed by others before it is reaped."""
    failures = []
    for rank in range(ranks):
        file = folder / f"rank-{rank}.error"
        code, at = ended.get(rank, (0, 0.0))
        if file.exists():
            failures.append(Failure(rank=rank, **pickle.loads(file.read_bytes())))
        elif code:
            failures.append(Failure(rank=rank, at=at, code=code))
    return min(failures, key=lambda failure: (failure.noticed_a_peer, failure.at))


def raise_failure(failure: Failure, ranks: int, folder: Path) -> NoReturn:
    """As RankError with the rank's own traceback, or LaunchError for a rank that was lost."""
    log = (folder / f"rank-{failure.rank}.log").read_text(errors="replace")
    if failure.traceback:
        message = f"rank {failure.rank} of {ranks} raised {failure.type}: {failure.message}\n\n{failure.traceback}"
        raise RankError(message, rank=failure.rank, remote_traceback=failure.traceback, log=log)
    if failure.code < 0:
        how = f"was killed by {signal.Signals(-failure.code).name}"
        if failure.code == -signal.SIGKILL:
            how += " (out of memory?)"
    else:
        how = f"left with exit code {failure.code} and no error"
    tail = "\n".join(log.splitlines()[-LOG_LINES:]) or "(it printed nothing)"
    raise LaunchError(f"rank {failure.rank} of {ranks} {how}. The end of its log:\n{tail}")
