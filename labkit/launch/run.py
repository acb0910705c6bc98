"""A function over N ranks: fresh processes, fed by cloudpickle, meeting through a file store (across machines, TCP's).

Why not multiprocessing: ``spawn`` cannot pickle a function of a notebook cell, and ``fork`` deadlocks once the kernel
has run a backward (autograd's threads do not survive the fork). So what is forked is a process that has loaded torch
and done nothing else (`forkserver`), which stays for the next launch.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from labkit.errors import DeadlineError, LaunchError
from labkit.launch.failure import first_failure, has_failed, raise_failure
from labkit.launch.ranks import Ranks
from labkit.launch.ray_address import ray_address
from labkit.launch.ray_ranks import RayRanks
from labkit.launch.request import checked_backend
from labkit.launch.sending import cell_sources, write_call
from labkit.launch.whereabouts import whereabouts
from labkit.measure import OnProgress

__all__ = ["Launched", "run"]

PORTABLE = sys.platform != "linux"
OTHERS_GRACE_S = 1.0  # after a rank failed: long enough to see who else did
SPARE_S = 30.0  # the guard's own deadline is later: it serves when this process is stopped (SIGSTOP, a debugger)
TICK_S = 0.02
TELL_S = 0.2


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
    with a GPU for each rank, else gloo), "gloo", "nccl", or None for plain processes without torch. RANK, LOCAL_RANK
    and WORLD_SIZE are set as torchrun sets them, and LABKIT_RANK and LABKIT_WORLD_SIZE.

    on: "local", this machine; "ray", the Ray of this process, of RAY_ADDRESS or of `ray start`, else one of its own for
    this call; or a cluster's address, "ray://host:10001", "host:6379" on a node of it. There all ranks start or none:
    each takes num_threads CPUs (with nccl a GPU), and they wait for their place until deadline_s. The nodes need the
    packages that fn uses, not labkit; their environment is their own, with ``env`` over it.

    RankError: a rank raised; the first that did, with its own traceback. LaunchError: a rank was lost without an error
    of its own. DeadlineError: not done within deadline_s; it says where each rank was. In every case, on Ctrl-C, and
    when this process is killed, no process is left, also none that a rank started.
    """
    env = env or {}
    backend = checked_backend(
        ranks=ranks, on=on, backend=backend, deadline_s=deadline_s, env=env, num_threads=num_threads
    )
    deadline_s = float(deadline_s)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="labkit-launch-") as name:
        folder = Path(name)
        write_call(folder / "call.pickle", fn, args, kwargs)
        setup = {
            "backend": backend,
            "num_threads": num_threads,
            "deadline_s": deadline_s,
            "sys_path": [str(path) for path in sys.path],
            "sources": cell_sources(),
            "watch_parent": PORTABLE,
            "elsewhere": False,
            "host": None,
        }
        name = f"{getattr(fn, '__name__', type(fn).__name__)} on {_ranks(ranks)}"
        spare = deadline_s + SPARE_S
        if on == "local":
            group: Ranks = Ranks(
                folder, ranks=ranks, name=name, deadline_s=spare, num_threads=num_threads, env=env, portable=PORTABLE,
                forks=backend is not None,
            )  # fmt: skip
        else:
            address = ray_address(on)
            there = RayRanks(folder, address=address, ranks=ranks, name=name, deadline_s=spare, portable=PORTABLE)
            setup |= there.setup(env)
            group = there
        (folder / "setup.pickle").write_bytes(pickle.dumps(setup))
        with group:
            startup_s = _wait(group, folder, ranks, deadline_s, started, on_progress)
        values = tuple(_value(folder, rank) for rank in range(ranks))
        logs = tuple((folder / f"rank-{rank}.log").read_text(errors="replace") for rank in range(ranks))
    duration_s = time.monotonic() - started
    if on_progress:
        on_progress(1.0, f"done in {duration_s:.1f} s")
    return Launched(values=values, logs=logs, startup_s=startup_s, duration_s=duration_s)


def _wait(
    group: Ranks, folder: Path, ranks: int, deadline_s: float, started: float, on_progress: OnProgress | None
) -> float:
    """Until every rank has left its value; the seconds until all had joined. Raises as `run` says."""
    ready_s: float | None = None
    told = -TELL_S
    while True:
        now = time.monotonic() - started
        guard_gone = group.guard.poll() is not None  # asked before we look at what it reported
        ended = group.ended()
        if any(has_failed(folder, rank, ended) for rank in range(ranks)):
            _raise_first(group, folder, ranks)
        if ready_s is None and all((folder / f"rank-{rank}.ready").exists() for rank in range(ranks)):
            ready_s = now
        if len(ended) == ranks:
            return now if ready_s is None else ready_s
        if now > deadline_s:
            missing = group.unplaced()
            if missing:
                raise DeadlineError(f"{_ranks(ranks)}, no place on the cluster within {deadline_s:g} s. {missing}")
            stage = group.stage()
            if stage:
                raise DeadlineError(f"{_ranks(ranks)}, not started within {deadline_s:g} s: {stage}. Raise deadline_s.")
            group.ask_where()
            time.sleep(group.stack_s)
            raise DeadlineError(
                f"{_ranks(ranks)}, not done within {deadline_s:g} s: ended. Raise deadline_s, or see whether one waits "
                f"for another:\n{whereabouts(folder, ranks)}"
            )
        if guard_gone:
            fault = group.fault() or "`labkit stop`, or a kill, does that."
            raise LaunchError(f"The ranks were ended from outside before they were done. {fault}")
        if on_progress and now - told >= TELL_S:
            told = now
            stage = group.stage()
            starting = f"{stage}, for {_ranks(ranks)}" if stage else f"{_ranks(ranks)} starting"
            state = starting if ready_s is None else f"running {now - ready_s:.1f} s"
            on_progress(len(ended) / ranks, state)
        time.sleep(TICK_S)


def _raise_first(group: Ranks, folder: Path, ranks: int) -> None:
    """After the others had a moment to say what they know, raise the failure that came first. A longer moment while all
    that is known is that a peer was lost."""
    started = time.monotonic()
    while True:
        ended = group.ended()
        first = first_failure(folder, ranks, ended)
        patience_s = group.others_s if first.lost_a_peer else OTHERS_GRACE_S
        if time.monotonic() - started > patience_s:
            break
        if all(rank in ended or has_failed(folder, rank, ended) for rank in range(ranks)):
            break
        time.sleep(TICK_S)
    raise_failure(first, ranks, folder)


def _value(folder: Path, rank: int) -> Any:
    try:
        with (folder / f"rank-{rank}.value").open("rb") as file:
            return cloudpickle.load(file)
    except Exception as error:
        raise LaunchError(
            f"what rank {rank} returned cannot be read here: {type(error).__name__}: {error}. "
            "Return numbers, arrays, tensors or plain data."
        ) from error


def _ranks(number: int) -> str:
    return f"{number} rank{'s' if number > 1 else ''}"
