"""Bounds on a checking process. They stop accidents, not attacks: code that means to escape them can (no sandbox)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

__all__ = ["adopt_orphans", "die_with_parent", "end_descendants", "lift_memory_bound", "limit_memory"]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def limit_memory(num_bytes: int) -> None:
    """Bound what this process allocates from now on; on Linux only (elsewhere the kernel does not hold RLIMIT_DATA).

    RLIMIT_DATA and not RLIMIT_AS: libraries reserve address space that they never touch. The hard limit stays, so that
    the process can lift the bound to report that it was hit.
    """
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/status") as status:
        used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = used + num_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def lift_memory_bound() -> None:
    """Room again, to tell what happened."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def die_with_parent(parent: int) -> None:
    """Linux: this process is killed when its parent ends, however that ends. parent: the pid it had when it forked."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def adopt_orphans() -> None:
    """Linux: what a child leaves behind becomes ours, so that ``end_descendants`` reaches it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants() -> None:
    """Kill everything that this process's children left running, and reap it."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
            process.wait(5)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a libc without prctl: the pipe's end still tells
            ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)
