"""What the lab has running, kept as small files, so that another terminal can list and end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from labkit.hardware import lab_home

__all__ = ["ProcessInfo", "forget", "processes", "register", "stop"]

GRACE_S = 8.0  # a guard ends its children within its own grace; after this it is ended by force
SAME_START_S = 0.05  # two readings of one process's start differ by less; a reused pid by far more


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """One guarded group. pid: its guard's, which is its group's id too; memory_bytes: resident, the whole tree."""

    pid: int
    kind: str
    name: str
    started_at: float
    owner_pid: int
    create_time: float
    memory_bytes: int = 0
    alive: bool = True

    @property
    def pgid(self) -> int:
        return self.pid


def _folder() -> Path:
    folder = lab_home() / "processes"
    folder.mkdir(exist_ok=True)
    return folder


def register(pid: int, *, kind: str, name: str, owner_pid: int) -> ProcessInfo:
    """Note a guard that has just been started."""
    created = psutil.Process(pid).create_time()
    info = ProcessInfo(pid=pid, kind=kind, name=name, started_at=time.time(), owner_pid=owner_pid, create_time=created)
    target = _folder() / f"{pid}.json"
    scratch = target.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(info)))
    scratch.replace(target)
    return info


def forget(pid: int) -> None:
    """Its group has ended."""
    (_folder() / f"{pid}.json").unlink(missing_ok=True)


def processes() -> list[ProcessInfo]:
    """Everything of the lab that runs, oldest first. Entries of what has ended are swept."""
    found = []
    for file in _folder().glob("*.json"):
        try:
            noted = ProcessInfo(**json.loads(file.read_text()))
        except (ValueError, TypeError):
            file.unlink(missing_ok=True)  # torn by a crash: its guard watches its owner and needs no entry
            continue
        except FileNotFoundError:
            continue
        process = _same_process(noted)
        if process is None:
            file.unlink(missing_ok=True)
            continue
        found.append(ProcessInfo(**{**asdict(noted), "memory_bytes": _memory_bytes(process)}))
    return sorted(found, key=lambda info: info.started_at)


def _same_process(noted: ProcessInfo) -> psutil.Process | None:
    """The noted process if it still runs; a pid that was given to another since is not it."""
    try:
        process = psutil.Process(noted.pid)
        same = abs(process.create_time() - noted.create_time) < SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _memory_bytes(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += int(member.memory_info().rss)
    return total


def stop(pid: int | None = None, *, sleep: Callable[[float], None] = time.sleep) -> list[ProcessInfo]:
    """End everything that the lab started, or the one group of ``pid``; what was ended. Nothing else is touched."""
    wanted = [info for info in processes() if pid is None or info.pid == pid]
    for info in wanted:
        _signal(info, signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until and any(_same_process(info) for info in wanted):
        sleep(0.05)
    for info in wanted:
        if _same_process(info):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(info.pgid, signal.SIGKILL)
        forget(info.pid)
    return wanted


def _signal(info: ProcessInfo, number: signal.Signals) -> None:
    """Only if it is still the process that was noted."""
    process = _same_process(info)
    if process is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
