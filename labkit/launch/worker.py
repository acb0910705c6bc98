"""One rank: unpickle the function, join the group, call it, leave the value or the error in a file.

``python -P worker.py FOLDER`` with RANK, LOCAL_RANK and WORLD_SIZE in the environment, as torchrun sets them. Started
by its path, and importing nothing of labkit, a rank without torch is up in a tenth of a second.
"""

from __future__ import annotations

import faulthandler
import linecache
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from atexit import _run_exitfuncs
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["end", "main"]

LONGEST_S = 30 * 86400.0  # more than this is no limit, and torch cannot hold it
# How torch, gloo and nccl say that a peer has gone: the consequence of another rank's failure.
PEER_WORDS = (
    "closed by peer",
    "reset by peer",
    "socket closed",
    "broken pipe",
    "remote process exited",
    "connection was likely closed",  # the store of rank 0, where ranks meet over TCP
    "client socket has failed to connect",
)


def main(folder: Path) -> int:
    faulthandler.enable()
    rank = int(os.environ["RANK"])
    try:
        setup = pickle.loads((folder / "setup.pickle").read_bytes())
        # What the owner can import, the function's modules among it, its ranks can import as well; on another machine
        # also what is installed there.
        sys.path[:] = dict.fromkeys([*setup["sys_path"], *(sys.path if setup["elsewhere"] else ())])
        for name, lines in setup["sources"].items():
            linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
        if setup["watch_parent"]:
            threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
        # Asked where it is, a rank answers also from a busy loop or a collective that hangs: no Python runs for it.
        stack = os.open(folder / f"rank-{rank}.stack", os.O_WRONLY | os.O_CREAT)
        faulthandler.register(signal.SIGUSR1, stack, all_threads=False)
        _call(folder, rank, setup)
    except BaseException as error:
        at = time.monotonic()
        _leave(folder / f"rank-{rank}.error", pickle.dumps({"at": at, **_told(error)}))
        traceback.print_exc()
        return 1
    return 0


def _call(folder: Path, rank: int, setup: dict[str, Any]) -> None:
    import cloudpickle

    backend = setup["backend"]
    store = None if backend is None else _join(folder, backend, rank, setup)
    with (folder / "call.pickle").open("rb") as file:
        function, args, kwargs = cloudpickle.load(file)
    (folder / f"rank-{rank}.ready").touch()
    value = function(*args, **kwargs)
    if backend is not None:  # after an error the others may hang in it: then the process just ends
        import torch.distributed as dist

        if dist.is_initialized():  # unless the function has done so itself
            dist.destroy_process_group()
    _leave_value(folder / f"rank-{rank}.value", value, rank)
    if store is not None and rank == 0 and setup["host"]:  # others may still need what it serves
        while not (folder / "all.done").exists():
            time.sleep(0.02)


def _join(folder: Path, backend: str, rank: int, setup: dict[str, Any]) -> object:
    """Join the group; the store through which its members found each other."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(setup["num_threads"])
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    world_size = int(os.environ["WORLD_SIZE"])
    timeout = timedelta(seconds=min(setup["deadline_s"], LONGEST_S))
    if setup["host"]:
        store = _meet(folder / "store.port", setup["host"], rank, world_size, timeout)
    else:
        # Not by a file:// address, which would trip over a '#' or '?' in the path.
        store = dist.FileStore(str(folder / "store"), world_size)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    return store


def _meet(port: Path, host: str, rank: int, world_size: int, timeout: timedelta) -> Any:
    """Where no folder is shared: a store that rank 0 serves on ``host``. It lets the system choose the port, so that
    none is taken between the choice and the use; ``port`` is where it says which, and where the others are told."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if rank == 0:
        store = TCPStore(host, 0, world_size, is_master=True, timeout=timeout, wait_for_workers=False)
        _leave(port, str(store.port).encode())
        return store
    while not port.exists():
        time.sleep(0.02)
    return TCPStore(host, int(port.read_text()), world_size, is_master=False, timeout=timeout)


def _leave_value(path: Path, value: object, rank: int) -> None:
    import cloudpickle

    scratch = path.with_name(path.name + ".new")
    try:
        with scratch.open("wb") as file:
            cloudpickle.dump(value, file)
    except OSError:
        raise  # the disk, not the value
    except Exception as error:
        raise TypeError(
            f"rank {rank} returned a {type(value).__name__}, which cannot be sent back ({error}). "
            "Return numbers, arrays, tensors or plain data."
        ) from error
    scratch.replace(path)


def _told(error: BaseException) -> dict[str, Any]:
    """What the owner is to know: the traceback from the function on, without our own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    said = traceback.TracebackException(type(error), error, trace)
    return {
        "type": type(error).__name__,
        "message": _text(error),
        "traceback": "".join(said.format()),
        "lost_a_peer": _lost_a_peer(error),
    }


def _text(error: BaseException) -> str:
    """str(error), also of one that cannot say itself."""
    return str(traceback.TracebackException(type(error), error, None))


def _lost_a_peer(error: BaseException | None) -> bool:
    """Whether it is, or was raised while handling, the loss of another rank."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, RuntimeError | OSError) and any(word in _text(error).lower() for word in PEER_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _leave(path: Path, data: bytes) -> None:
    """Whole or not at all: the owner reads it as soon as it is there."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(data)
    scratch.replace(path)


def _die_with(parent: int) -> None:
    """Where the system cannot tie us to the guard: end within half a second of it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def end(code: int) -> NoReturn:
    """End as the interpreter does, up to where it takes its modules down: a native thread of torch's that still runs
    then (a group's, autograd's) now and again aborts the process, which has long done its work."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the function's own threads
    _run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main(Path(sys.argv[1])))
