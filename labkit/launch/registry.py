"""What the lab has running, kept as small files, so that another terminal can list and end it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import psutil

from labkit.hardware import lab_home

__all__ = ["ProcessInfo", "end_by_force", "new_entry", "processes", "register", "stop", "unfinished"]

FORCE_S = 8.0  # beyond its own grace, for a guard that does not end


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """One guarded group. pid: its keeper's, which is its group's id too; memory_bytes: resident, the whole tree.

    started_at: seconds since the epoch; identity: what a later process with this pid would not have.
    """

    pid: int
    kind: str
    name: str
    started_at: float
    owner_pid: int
    host: str
    identity: str
    grace_s: float = 2.0
    memory_bytes: int = 0
    alive: bool = True

    @property
    def pgid(self) -> int:
        return self.pid


def _folder() -> Path:
    folder = lab_home() / "processes"
    folder.mkdir(exist_ok=True)
    return folder


def new_entry() -> Path:
    """Where to note a group that is about to start."""
    return _folder() / f"{uuid.uuid4().hex}.json"


def unfinished(entry: Path) -> Path:
    """Where an entry is written before it takes its place."""
    return entry.with_suffix(".new")


def register(entry: Path, pid: int, *, kind: str, name: str, grace_s: float) -> None:
    """Note a group that has just been started; whole or not at all."""
    info = ProcessInfo(
        pid=pid,
        kind=kind,
        name=name,
        started_at=time.time(),
        owner_pid=os.getpid(),
        host=platform.node(),
        identity=_identity(pid),
        grace_s=grace_s,
    )
    scratch = unfinished(entry)
    scratch.write_text(json.dumps(asdict(info)))
    scratch.replace(entry)


def _identity(pid: int) -> str:
    """When the process started, on a clock that nobody sets; "" when there is none.

    On Linux in ticks since this boot: psutil's create_time moves with the wall clock.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{stat[19].decode()}"
    except (OSError, IndexError):
        with contextlib.suppress(psutil.NoSuchProcess):
            return f"{psutil.Process(pid).create_time():.2f}"
        return ""


def _is_alive(info: ProcessInfo) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return _identity(info.pid) == info.identity and psutil.Process(info.pid).status() != psutil.STATUS_ZOMBIE
    return False


def _noted() -> list[tuple[Path, ProcessInfo]]:
    """Every entry of this host that still runs. The others of this host are swept; those of other hosts, which share
    a home over the network, are theirs."""
    known = {field.name for field in fields(ProcessInfo)}
    found = []
    for file in _folder().glob("*.json"):
        try:
            info = ProcessInfo(**{key: value for key, value in json.loads(file.read_text()).items() if key in known})
        except FileNotFoundError:
            continue
        except (ValueError, TypeError, AttributeError):
            file.unlink(missing_ok=True)  # torn by a crash: its keeper watches its owner and needs no entry
            continue
        if info.host != platform.node():
            continue
        if _is_alive(info):
            found.append((file, info))
        else:
            file.unlink(missing_ok=True)
    return sorted(found, key=lambda pair: pair[1].started_at)


def processes() -> list[ProcessInfo]:
    """Everything of the lab that runs on this machine, oldest first. Entries of what has ended are swept."""
    return [replace(info, memory_bytes=_memory_bytes(info.pid)) for _, info in _noted()]


def _memory_bytes(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for member in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += int(member.memory_info().rss)
    return total


def stop(pid: int | None = None, *, sleep: Callable[[float], None] = time.sleep) -> list[ProcessInfo]:
    """End everything that the lab started here, or the group of ``pid``; what was ended. Nothing else is touched."""
    wanted = [(file, info) for file, info in _noted() if pid is None or info.pid == pid]
    for _, info in wanted:
        _signal(info, signal.SIGTERM)
    until = time.monotonic() + max((info.grace_s for _, info in wanted), default=0.0) + FORCE_S
    while time.monotonic() < until and any(_is_alive(info) for _, info in wanted):
        sleep(0.05)
    for file, info in wanted:
        if _is_alive(info):
            end_by_force(info.pid)
        file.unlink(missing_ok=True)
    return [info for _, info in wanted]


def _signal(info: ProcessInfo, number: signal.Signals) -> None:
    """Only to the process that was noted: a pidfd cannot come to mean another one between the look and the signal."""
    try:
        handle = os.pidfd_open(info.pid)
    except (AttributeError, OSError):  # not on Linux, not in this sandbox, or it has gone
        if _is_alive(info):
            with contextlib.suppress(ProcessLookupError):
                os.kill(info.pid, number)
        return
    try:
        if _is_alive(info):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def end_by_force(pid: int) -> None:
    """SIGKILL for a keeper and everything below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for member in (*top.children(recursive=True), top):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                member.kill()
