"""One rank: unpickle the function, join the group, call it, leave the value or the error in a file.

``python -m labkit.launch.worker FOLDER`` with RANK and WORLD_SIZE in the environment, as torchrun sets them.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(folder: Path) -> int:
    faulthandler.enable()
    rank = int(os.environ["RANK"])
    try:
        setup = json.loads((folder / "setup.json").read_text())
        # What the owner can import, the function's modules among it, its ranks can import as well.
        sys.path[:] = setup["sys_path"]
        value = _call(folder, rank, setup)
        _leave(folder / f"rank-{rank}.value", _pickled(value, rank))
    except BaseException as error:
        _leave(folder / f"rank-{rank}.error", pickle.dumps(_told(error)))
        traceback.print_exc()
        return 1
    return 0


def _call(folder: Path, rank: int, setup: dict[str, Any]) -> object:
    import cloudpickle

    backend = setup["backend"]
    if backend is None:
        function, args, kwargs = cloudpickle.loads((folder / "call.pickle").read_bytes())
        return function(*args, **kwargs)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(setup["num_threads"])
    if backend == "nccl":
        torch.cuda.set_device(rank)
    function, args, kwargs = cloudpickle.loads((folder / "call.pickle").read_bytes())
    dist.init_process_group(
        backend,
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(seconds=setup["deadline_s"]),
    )
    (folder / f"rank-{rank}.ready").touch()
    try:
        return function(*args, **kwargs)
    finally:
        if sys.exc_info()[0] is None:  # after an error the others may hang in it: the process ends anyway
            dist.destroy_process_group()


def _pickled(value: object, rank: int) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:
        raise TypeError(
            f"rank {rank} returned a {type(value).__name__}, which cannot be sent back ({error}). "
            "Return numbers, arrays, tensors or plain data."
        ) from error


def _told(error: BaseException) -> dict[str, Any]:
    return {
        "at": time.time(),
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _leave(path: Path, data: bytes) -> None:
    """Whole or not at all: the owner reads it as soon as it is there."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(data)
    scratch.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
