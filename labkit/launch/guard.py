"""Runs commands as their guard: whatever they start is gone when their owner dies, asks, or the deadline passes.

A program of its own, standard library only, started as ``python -I -S guard.py SPEC``, so that it costs milliseconds
and never waits for a lock of the owner's interpreter. SPEC is a JSON file: ``owner`` (pid), ``grace_s``, ``deadline_s``
(or null), ``status`` (a file that gets a JSON line for each child that ended), ``children`` (each argv, env, cwd, log),
``scratch`` (what to remove when the owner could not) and ``stay`` (for an owner that may be killed at any moment: stay
after the last child until it asks or dies, and remove the scratch in both cases).

It is two processes, so that SIGKILL to either leaves nothing. The *keeper* leads the process group and watches the
owner. The *guard* below it starts and ends the children, and watches the keeper. When the guard is killed its children
die with it, and the keeper adopts and ends what they had started.

The owner's side of standard input: closed, end everything; ``s``, send the children SIGUSR1 (say where you are). What
comes out of standard output is a fault of the guard itself; it closes when both have gone. The exit code is the first
child's, or 128 + the signal that ended it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from labkit.launch.family import Family
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # isolated Python does not look beside the script
    from family import Family

__all__ = ["main"]

Rank = Callable[[dict[str, Any]], NoReturn]
ENOUGH = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
FORCE_S = 5.0  # beyond the grace, for a guard that does not end its children
AFTER_KEEPER_S = 2.0  # for an owner that dies just after our keeper
AFTER_KEEPER_STAYING_S = 15.0


class Signals:
    """Signals as something to select on: ``fd`` is readable after one, ``got`` holds those that came."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.got: set[int] = set()
        self.fd, write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda got, frame: self.got.add(got))

    def wait(self, others: Iterable[int], timeout_s: float) -> list[int]:
        """Which of the other file descriptors are ready, when there is one, a signal, or after timeout_s."""
        ready = select.select([self.fd, *others], [], [], timeout_s)[0]
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)
        return ready


def guard(spec: dict[str, Any], keeper: int, rank: Rank | None = None) -> int:
    """Start the children and end them in time. keeper: a pipe that closes with the keeper."""
    signals = Signals(*ENOUGH, signal.SIGUSR1, signal.SIGCHLD)
    family = Family(portable=spec["portable"], fork=rank)
    reported: set[int] = set()
    deadline = float("inf") if spec["deadline_s"] is None else time.monotonic() + spec["deadline_s"]
    try:
        for child in spec["children"]:
            family.start(child)
        while len(reported) < len(family.started) and not ENOUGH & signals.got:
            left = deadline - time.monotonic()
            if left <= 0 or keeper in signals.wait([keeper], min(60.0, left)):
                break
            if signal.SIGUSR1 in signals.got:
                signals.got.discard(signal.SIGUSR1)
                for pid in set(family.started) - set(family.codes):
                    os.kill(pid, signal.SIGUSR1)
            family.reap()
            report(spec, family, reported)
    except (OSError, ValueError, TypeError) as error:  # a command, folder or environment that cannot be
        tell(spec, {"failed": str(error)})
    finally:
        family.end(spec["grace_s"])
    if spec.get("stay"):
        report(spec, family, reported)
        while not ENOUGH & signals.got and keeper not in signals.wait([keeper], 60.0):
            pass
    first = family.codes.get(family.started[0], -signal.SIGKILL) if family.started else 127
    return first if first >= 0 else 128 - first


def report(spec: dict[str, Any], family: Family, reported: set[int]) -> None:
    """Tell the owner of the children that have ended and are not among the reported; now they are."""
    for index, pid in enumerate(family.started):
        if pid in family.codes and pid not in reported:
            reported.add(pid)
            tell(spec, {"rank": index, "code": family.codes[pid], "at": time.monotonic()})


def keep(spec: dict[str, Any], pid: int, parent: int, owner: int) -> int:
    """Watch the owner, and end the guard with it. parent: who started us, the owner or its fork server."""
    signals = Signals(*ENOUGH, signal.SIGCHLD)
    family = Family(portable=spec["portable"])
    watched = {0} if owner < 0 else {0, owner}
    force_at = None
    while not family.reaped(pid):
        ready = signals.wait(watched, 0.5)
        # Where something that the owner forked keeps our input open, the pidfd tells; where there is none, our parent.
        ending = bool(ENOUGH & signals.got) or owner in ready or os.getppid() != parent
        watched -= {owner} & set(ready)
        if 0 in ready:
            said = os.read(0, 64)
            if said:
                os.kill(pid, signal.SIGUSR1)
            else:
                watched.discard(0)
                ending = True
        if ending and force_at is None:
            force_at = time.monotonic() + spec["grace_s"] + FORCE_S
            os.kill(pid, signal.SIGTERM)
        elif force_at is not None and time.monotonic() > force_at:
            os.kill(pid, signal.SIGKILL)
    family.end(0.0)  # nothing, unless the guard was killed
    asked = spec.get("stay") and 0 not in watched
    if asked or (os.getppid() != parent if owner < 0 else ended(owner, 0.0)):
        clear_away(spec["scratch"])
    code = family.codes[pid]
    return code if code >= 0 else 128 - code


def handle_of_owner(spec: dict[str, Any]) -> int:
    """Its pidfd; -1 where there is none: it has gone, or a sandbox forbids it. Our parent's pid tells then."""
    if hasattr(os, "pidfd_open") and not spec["portable"]:
        with contextlib.suppress(OSError):
            return os.pidfd_open(spec["owner"])
    return -1


def ended(handle: int, timeout_s: float) -> bool:
    """Whether the other end, or the process behind a pidfd, has gone within timeout_s."""
    return bool(select.select([handle], [], [], timeout_s)[0])


def clear_away(paths: list[str]) -> None:
    """The owner's temporary folders and its entry in the registry, which it would have removed itself."""
    import shutil  # here: it is slow to import

    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)
        shutil.rmtree(path, ignore_errors=True)


def tell(spec: dict[str, Any], event: dict[str, Any]) -> None:
    """One line for the owner; one that has gone has removed the folder perhaps."""
    with contextlib.suppress(OSError), open(spec["status"], "a") as file:
        file.write(json.dumps(event) + "\n")


def main(path: str, *, parent: int | None = None, rank: Rank | None = None) -> int:
    """parent and rank: in a fork of `forkserver`, its pid, and what a child becomes in place of its command."""
    with open(path) as file:
        spec = json.load(file)
    lifeline, keepers_end = os.pipe()
    owner = handle_of_owner(spec)
    pid = os.fork()
    if pid:
        os.close(lifeline)
        return keep(spec, pid, spec["owner"] if parent is None else parent, owner)
    code = 1
    try:
        os.close(keepers_end)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = guard(spec, lifeline, rank)
        # Ray's workers kill their children, our keeper among them, just before they end.
        wait_s = AFTER_KEEPER_STAYING_S if spec.get("stay") else AFTER_KEEPER_S
        if ended(lifeline, 0.0) and owner >= 0 and ended(owner, wait_s):
            clear_away(spec["scratch"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
