"""A function over N ranks: fresh processes, fed by cloudpickle, meeting through a file store.

Why not multiprocessing: ``spawn`` cannot pickle a function of a notebook cell, and ``fork`` deadlocks once the kernel
has run a backward (autograd's threads do not survive the fork).
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from labkit.errors import DeadlineError, LaunchError, UsageError
from labkit.hardware import machine
from labkit.launch.failure import first_failure, raise_failure
from labkit.launch.process import Guarded
from labkit.measure import OnProgress

__all__ = ["RANK_BYTES", "Launched", "run"]

RANK_BYTES = 230 * 2**20  # resident memory of one rank that has imported torch and joined a gloo group
OTHERS_GRACE_S = 1.0  # after a rank failed: long enough for the one that really caused it to be noticed
TICK_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What came back, by rank. startup_s: until every rank had joined the group; duration_s: the whole call."""

    values: tuple[Any, ...]
    logs: tuple[str, ...]
    startup_s: float
    duration_s: float


def run(
    fn: Callable[..., Any],
    *args: Any,
    ranks: int = 2,
    on: str = "local",
    backend: str | None = "auto",
    deadline_s: float = 120.0,
    env: Mapping[str, str] | None = None,
    num_threads: int = 1,
    on_progress: OnProgress | None = None,
    **kwargs: Any,
) -> Launched:
    """Call ``fn(*args, **kwargs)`` once on each of ``ranks`` fresh processes of one torch.distributed group.

    fn may come from a notebook cell; inside it ``torch.distributed.get_rank()`` tells who it is. backend: "auto" (nccl
    with GPUs, else gloo), "gloo", "nccl", or None for plain processes without torch (RANK and WORLD_SIZE are set).

    RankError: a rank raised; the first that did, with its own traceback. LaunchError: a rank was lost without an error
    of its own. DeadlineError: not done within deadline_s. In every case, and on Ctrl-C, no process is left.
    """
    backend = _checked(ranks, on, backend, deadline_s)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="labkit-launch-") as name:
        folder = Path(name)
        (folder / "call.pickle").write_bytes(_pickled_call(fn, args, kwargs))
        setup = {"backend": backend, "num_threads": num_threads, "deadline_s": deadline_s, "sys_path": sys.path}
        (folder / "setup.json").write_text(json.dumps(setup))
        children = [_child(folder, rank, ranks, num_threads, env or {}) for rank in range(ranks)]
        label = f"{getattr(fn, '__name__', 'function')} on {ranks} ranks"
        # The guard's own deadline is the second line of defence, should this process be stopped (SIGSTOP, a debugger).
        with Guarded(children, name=label, kind="launch", deadline_s=deadline_s + 30) as group:
            startup_s = _wait(group, folder, ranks, deadline_s, started, on_progress)
        values = tuple(cloudpickle.loads((folder / f"rank-{rank}.value").read_bytes()) for rank in range(ranks))
        logs = tuple((folder / f"rank-{rank}.log").read_text(errors="replace") for rank in range(ranks))
    return Launched(values=values, logs=logs, startup_s=startup_s, duration_s=time.monotonic() - started)


def _checked(ranks: int, on: str, backend: str | None, deadline_s: float) -> str | None:
    """Everything that can be refused before a process starts; the backend that is meant."""
    here = machine()
    if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
        raise UsageError(f"ranks must be a whole number of at least 1; got {ranks!r}.")
    if on != "local":
        raise UsageError(f'on must be "local", this machine; got {on!r}. Other places are not available.')
    if backend not in ("auto", "gloo", "nccl", None):
        raise UsageError(f'backend must be "auto", "gloo", "nccl" or None; got {backend!r}.')
    if not deadline_s > 0:
        raise UsageError(f"deadline_s must be positive; got {deadline_s}.")
    if backend == "auto":
        backend = here.backend
    if backend == "nccl" and ranks > len(here.accelerators):
        raise UsageError(
            f'nccl needs a GPU a rank; got {ranks} ranks, {len(here.accelerators)} GPUs. Use backend="gloo".'
        )
    if backend is not None and ranks * RANK_BYTES > here.memory_bytes:
        most = here.memory_bytes // RANK_BYTES
        raise UsageError(
            f"{ranks} ranks need about {ranks * RANK_BYTES / 2**30:.1f} GiB for torch alone; this machine has "
            f"{here.memory_bytes / 2**30:.1f} GiB. Use at most {most}."
        )
    return backend


def _pickled_call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    if not callable(fn):
        raise UsageError(f"launch.run takes a function; got a {type(fn).__name__}.")
    with _by_value(fn):
        for what, value in (("the function", fn), ("its arguments", (args, kwargs))):
            try:
                cloudpickle.dumps(value)
            except Exception as error:
                raise UsageError(
                    f"launch.run cannot send {what} to other processes: {error}. "
                    "Open files, locks and servers stay where they are; make them inside the function."
                ) from error
        return bytes(cloudpickle.dumps((fn, args, kwargs)))


@contextlib.contextmanager
def _by_value(fn: Callable[..., Any]) -> Iterator[None]:
    """Send a function whole when its module cannot be imported elsewhere (a script, a test collected by path)."""
    module = sys.modules.get(getattr(fn, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or _importable(module):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _importable(module: ModuleType) -> bool:
    parts = module.__name__.split(".")
    search = sys.path
    for part in parts:  # without importing, and without the modules already loaded
        spec = importlib.machinery.PathFinder.find_spec(part, search)
        if spec is None:
            return module.__spec__ is not None and module.__spec__.origin in ("built-in", "frozen")
        search = list(spec.submodule_search_locations or [])
    return True


def _child(folder: Path, rank: int, ranks: int, num_threads: int, env: Mapping[str, str]) -> dict[str, Any]:
    own = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": str(num_threads),
        "PYTHONUNBUFFERED": "1",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    return {
        "argv": [sys.executable, "-m", "labkit.launch.worker", str(folder)],
        "env": {**os.environ, **own, **env},
        "cwd": os.getcwd(),
        "log": str(folder / f"rank-{rank}.log"),
    }


def _wait(
    group: Guarded, folder: Path, ranks: int, deadline_s: float, started: float, on_progress: OnProgress | None
) -> float:
    """Until every rank has left its value; the seconds until all had joined. Raises as `run` says."""
    ready_s: float | None = None
    told = 0.0
    while True:
        now = time.monotonic() - started
        ended = group.ended()
        if any((folder / f"rank-{rank}.error").exists() or ended.get(rank, (0, 0))[0] for rank in range(ranks)):
            time.sleep(OTHERS_GRACE_S)
            raise_failure(first_failure(folder, ranks, group.ended()), ranks, folder)
        if ready_s is None and all(_has_joined(folder, rank) for rank in range(ranks)):
            ready_s = now
        if len(ended) == ranks:
            return now if ready_s is None else ready_s
        if group.guard.poll() is not None:
            raise LaunchError("The ranks were ended from outside (`labkit stop`?) before they were done.")
        if now > deadline_s:
            raise DeadlineError(
                f"{ranks} ranks were not done within {deadline_s:g} s, and have been ended. "
                f"Raise deadline_s, or see whether one waits for another. {_last_words(folder, ranks)}"
            )
        if on_progress and now - told > 0.2:
            told = now
            state = f"running, {now:.1f} s" if ready_s is not None else f"{ranks} ranks starting, {now:.1f} s"
            on_progress(min(0.99, now / deadline_s), state)
        time.sleep(TICK_S)


def _has_joined(folder: Path, rank: int) -> bool:
    return (folder / f"rank-{rank}.ready").exists() or (folder / f"rank-{rank}.value").exists()


def _last_words(folder: Path, ranks: int) -> str:
    said = []
    for rank in range(ranks):
        log = folder / f"rank-{rank}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        said.append(f"rank {rank}: {lines[-1]}" if lines else f"rank {rank}: printed nothing")
    return "; ".join(said)
