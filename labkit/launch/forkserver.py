"""Forks the ranks of launch after launch from one process that has loaded torch: `python -P forkserver.py FD OWNER`.

A program of its own, beside the guard, whose code its forks run: each request becomes a keeper, which forks its guard,
which forks the ranks. Nothing here starts a thread or computes, so that a fork is sound. FD is a socket to the owner:
a request is the path of a guard's SPEC with its standard input and output, the answer the keeper's pid with its pidfd.
Closed, or idle for long with nothing running, the server ends.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from labkit.launch import guard, worker
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import guard
    import worker

    sys.path.pop(0)

__all__ = ["main"]

IDLE_S = 300.0
# Slow to load (torch._dynamo: 4 s), and needed by many ranks (every optimizer, DDP, fully_shard). One that a rank has
# loaded is loaded here before the next launch: no launch waits for what it does not use.
SLOW = ("torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.distributed.pipelining")


def main(connection: socket.socket, owner: int) -> int:
    import torch.distributed  # noqa: F401

    heard, told = os.pipe()  # from the ranks: what they have loaded
    os.set_blocking(heard, False)
    keepers: set[int] = set()
    idle_since = time.monotonic()
    while True:
        ready = select.select([connection], [], [], 1.0)[0]
        keepers -= _ended()
        if keepers or ready:
            idle_since = time.monotonic()
        if not ready:
            if os.getppid() != owner or time.monotonic() - idle_since > IDLE_S:
                return 0
            continue
        spec, streams, _, _ = socket.recv_fds(connection, 4096, 2)
        if not spec:
            return 0
        _load(heard)
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            connection.close()
            os.close(heard)
            _become_keeper(os.fsdecode(spec), streams, server, told)
        keepers.add(pid)
        handle = os.pidfd_open(pid)
        socket.send_fds(connection, [str(pid).encode()], [handle])
        for descriptor in (*streams, handle):
            os.close(descriptor)


def _ended() -> set[int]:
    ended = set()
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            ended.add(pid)
    return ended


def _load(heard: int) -> None:
    with contextlib.suppress(BlockingIOError):
        for name in set(os.read(heard, 65536).decode().split()) - set(sys.modules):
            importlib.import_module(name)


def _become_keeper(spec: str, streams: list[int], server: int, told: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        for descriptor, stream in ((0, streams[0]), (1, streams[1]), (2, streams[1])):
            os.dup2(stream, descriptor)
        for stream in streams:
            os.close(stream)
        code = guard.main(spec, parent=server, rank=lambda child: _become_rank(child, told))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def _become_rank(child: dict[str, Any], told: int) -> NoReturn:
    """As a fresh process would be, but for what has been loaded."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(child["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    if child["cwd"] is not None:
        os.chdir(child["cwd"])
    os.environ.clear()
    os.environ.update(child["env"])
    for name in ("random", "numpy.random"):  # or all ranks would draw the same
        if name in sys.modules:
            sys.modules[name].seed()
    code = worker.main(Path(child["argv"][-1]))
    with contextlib.suppress(OSError):
        os.write(told, "".join(f"{name} " for name in SLOW if name in sys.modules).encode())
    worker.end(code)


if __name__ == "__main__":
    sys.exit(main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
