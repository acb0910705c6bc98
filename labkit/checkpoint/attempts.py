"""One attempt of a training job on ranks that are forked, watched and killed. For a process that has only loaded torch.

Forked, because a fresh process takes seconds to load torch and a drill makes hundreds. Only a process that has not
computed may fork: autograd's threads do not survive it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.checkpoint.folders import REAL_FOLDERS, FolderSystem
from labkit.checkpoint.killing import KillingFolders
from labkit.checkpoint.training import Job, train
from labkit.errors import LaunchError

__all__ = ["Attempt", "Kill", "attempt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When: after so many filesystem operations of rank 0, or delay_s after it has begun its save of that number."""

    operations: int | None = None
    save: int = 1
    delay_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Attempt:
    """What rank 0 told before it ended. where: in what the kill fell, None where it ran to its end."""

    losses: dict[int, float] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)  # of the state after that step
    saved: dict[int, str] = field(default_factory=dict)  # step -> id, told after the publication had returned
    resumed: tuple[int, str] | None = None
    where: str | None = None


def attempt(job: Job, ranks: int, kill: Kill | None, scratch: Path, *, deadline_s: float = 60.0) -> Attempt:
    """Fork the ranks, let them train, kill them as said. LaunchError: a rank failed by itself, or took too long."""
    reading, writing = os.pipe()
    pids = [_fork(job, rank, ranks, kill, scratch, writing if rank == 0 else None) for rank in range(ranks)]
    os.close(writing)
    told = Attempt()
    try:
        _listen(told, reading, kill, lambda: _end(pids), deadline_s)
    finally:
        _end(pids)
        for pid in pids:
            os.waitpid(pid, 0)
        os.close(reading)
    return told


def _fork(job: Job, rank: int, ranks: int, kill: Kill | None, scratch: Path, pipe: int | None) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _rank(job, rank, ranks, kill, scratch, pipe)
        code = 0
    except BaseException as error:
        if pipe is not None:
            os.write(pipe, (json.dumps(["error", 0, repr(error)[:2000]]) + "\n").encode())
    finally:
        os._exit(code)


def _rank(job: Job, rank: int, ranks: int, kill: Kill | None, scratch: Path, pipe: int | None) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)

    def tell(what: str, step: int, value: Any) -> None:
        if pipe is not None:
            os.write(pipe, (json.dumps([what, step, value]) + "\n").encode())

    fs: FolderSystem = REAL_FOLDERS
    if rank == 0 and kill is not None and kill.operations is not None:
        fs = KillingFolders(kill.operations, lambda where: tell("kill", 0, where))
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{scratch}/meeting", rank=rank, world_size=ranks)
    train(job, fs=fs, on_event=tell)
    tell("done", 0, None)


def _listen(told: Attempt, pipe: int, kill: Kill | None, end: Callable[[], None], deadline_s: float) -> None:
    """Until rank 0 has ended: its end of the pipe closes, whatever ended it."""
    until, rest, saves = time.monotonic() + deadline_s, b"", 0
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise LaunchError(f"A drill's attempt took longer than {deadline_s:g} s and was ended.")
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            what, step, value = json.loads(line)
            _note(told, what, step, value)
            saves += what == "saving"
            if what == "saving" and kill is not None and kill.operations is None and saves == kill.save:
                time.sleep(kill.delay_s)
                told.where = "saving"
                end()


def _note(told: Attempt, what: str, step: int, value: Any) -> None:
    if what == "error":
        raise LaunchError(f"A drill's rank failed by itself: {value}")
    if what == "resumed":
        told.resumed = (step, value)
    elif what == "loss":
        told.losses[step] = value
    elif what == "state":
        told.digests[step] = value
    elif what == "saved":
        told.saved[step] = value
    elif what == "kill":
        told.where = value


def _end(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)  # not waited for yet, so the number is still this child's
