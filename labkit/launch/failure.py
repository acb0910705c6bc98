"""Which rank really failed: the first by its own clock, and not those that only noticed that a peer had gone."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from labkit.errors import LaunchError, RankError

__all__ = ["Failure", "first_failure", "has_failed", "raise_failure"]

LOG_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How one rank failed. at: time.monotonic(); code: exit code, or minus the signal, where it left no error.

    lost: how its machine or its host there went, where nobody can say more.
    """

    rank: int
    at: float
    type: str = ""
    message: str = ""
    traceback: str = ""
    lost_a_peer: bool = False
    code: int = 0
    lost: str = ""
    returned: bool = False


def has_failed(folder: Path, rank: int, ended: Mapping[int, tuple[int, float]]) -> bool:
    """Whether it left an error, or ended otherwise than by leaving its value."""
    if (folder / f"rank-{rank}.error").exists():
        return True
    return rank in ended and (ended[rank][0] != 0 or not (folder / f"rank-{rank}.value").exists())


def first_failure(folder: Path, ranks: int, ended: Mapping[int, tuple[int, float]]) -> Failure:
    """The failure to report. A rank that only lost its peer comes after one that crashed, whatever their clocks say:
    a crash is noticed by others before it is reaped."""
    failures = []
    for rank in range(ranks):
        if not has_failed(folder, rank, ended):
            continue
        error = folder / f"rank-{rank}.error"  # looked for afterwards: it may have come in between
        if error.exists():
            failures.append(Failure(rank=rank, **pickle.loads(error.read_bytes())))
        else:
            code, at = ended[rank]
            returned = (folder / f"rank-{rank}.value").exists()
            failures.append(Failure(rank=rank, at=at, code=code, returned=returned))
    return min(failures, key=lambda failure: (failure.lost_a_peer, failure.at))


def raise_failure(failure: Failure, ranks: int, folder: Path) -> NoReturn:
    """As RankError with the rank's own traceback, or LaunchError for a rank that was lost."""
    file = folder / f"rank-{failure.rank}.log"
    log = file.read_text(errors="replace") if file.exists() else ""
    node = folder / f"rank-{failure.rank}.node"
    who = f"rank {failure.rank} of {ranks}" + (f" on {node.read_text()}" if node.exists() else "")
    if failure.traceback:
        message = f"{who} raised {failure.type}: {failure.message}\n\n{failure.traceback}"
        raise RankError(message, rank=failure.rank, remote_traceback=failure.traceback, log=log)
    when = ", after its function had returned" if failure.returned else ", before its function returned"
    if failure.lost:
        how, when = failure.lost, ""
    elif failure.code < 0:
        how = f"was killed by {_signal_name(-failure.code)}"
        if failure.code == -signal.SIGKILL:
            how += " (out of memory?)"
    else:
        how = f"left with exit code {failure.code} and no error"
    tail = "\n".join(log.splitlines()[-LOG_LINES:]) or "(it printed nothing)"
    raise LaunchError(f"{who} {how}{when}. The end of its log:\n{tail}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
