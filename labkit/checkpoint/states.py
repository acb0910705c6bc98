"""Training states through torch's distributed checkpoint (DCP) into a store: sharded, and resharded on load."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from labkit.checkpoint.store import Store, told
from labkit.checkpoint.validation import Checkpoint
from labkit.errors import DataError

__all__ = ["agree", "fingerprint", "load", "pull_state", "push_state", "save", "write_shards"]

T = TypeVar("T")


def fingerprint(model: nn.Module) -> str:
    """Names, whole shapes and types of a model's parameters, hashed: the same on any world size."""
    told = [f"{name} {tuple(p.shape)} {p.dtype}" for name, p in model.named_parameters()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def pull_state(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    """What training needs to go on: parameters, moments and the step, each rank its own shards."""
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments, "step": torch.tensor(step)}


def push_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> int:
    """The other way; the step that the state is of."""
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return int(state["step"])


def save(
    store: Store, step: int, state: dict[str, Any], *, parent: str | None = None, group: dist.ProcessGroup | None = None
) -> Checkpoint:
    """Every rank writes its shards, rank 0 commits; when this returns, on any rank, the checkpoint is published.

    A collective call where a process group is up. The store's errors are raised on every rank.
    """
    with ExitStack() as stack:
        staged = agree(lambda: stack.enter_context(store.writing(step)), group)
        write_shards(state, staged, group)
        return agree(lambda: store.commit(staged, step, parent=parent, world_size=_world_size(group)), group)


def load(checkpoint: Checkpoint, state: dict[str, Any], *, group: dist.ProcessGroup | None = None) -> None:
    """Read a checkpoint into ``state``'s tensors, in place; each rank takes what its shards need, however many wrote.

    The checkpoint is one that `Store.latest` or `Store.load` has hashed: DCP itself notices little. A collective call.
    DataError: it noticed.
    """
    reader = FileSystemReader(checkpoint.folder)
    try:
        with _quiet():
            dcp_load(state, storage_reader=reader, process_group=group, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        raise DataError(f"{checkpoint.folder} cannot be loaded: {error}. Restore an older checkpoint.") from error


def write_shards(state: dict[str, Any], staged: Path, group: dist.ProcessGroup | None) -> None:
    """DCP's own writing, and the system's own refusal out of DCP's wrapping, on every rank in the lab's words."""
    # sync_files=False: the store syncs each file when it commits
    writer = FileSystemWriter(staged, sync_files=False)
    with told(staged.parent):
        try:
            with _quiet():
                dcp_save(state, storage_writer=writer, process_group=group, no_dist=not dist.is_initialized())
        except CheckpointException as error:
            causes = [failure[0] for failure in error.failures.values()]
            refused = next((cause for cause in causes if isinstance(cause, OSError)), None)
            # DCP's own is a BaseException, which nobody who catches errors expects
            raise refused or DataError(f"DCP could not write {staged}: {error}") from error


def agree(call: Callable[[], T], group: dist.ProcessGroup | None) -> T:
    """What ``call`` returns on rank 0, or raises there, on every rank."""
    if not dist.is_initialized():
        return call()
    answer: list[Any] = [None, None]
    if dist.get_rank(group) == 0:
        try:
            answer[0] = call()
        except Exception as error:
            answer[1] = error
    dist.broadcast_object_list(answer, group=group, group_src=0)
    if answer[1] is not None:
        raise answer[1]
    result: T = answer[0]
    return result


@contextmanager
def _quiet() -> Iterator[None]:
    """DCP warns where no process group is up, also when it is told so, and logs what it raises besides."""
    root = logging.getLogger()  # where DCP's loader logs
    root.addFilter(_not_of_dcp)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            yield
    finally:
        root.removeFilter(_not_of_dcp)


def _not_of_dcp(record: logging.LogRecord) -> bool:
    return record.module != dcp_load.__module__.rpartition(".")[2]


def _world_size(group: dist.ProcessGroup | None) -> int:
    return dist.get_world_size(group) if dist.is_initialized() else 1
