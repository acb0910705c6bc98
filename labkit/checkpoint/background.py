"""Checkpoints beside the training: it waits for a copy in memory, not for the disk."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from labkit.checkpoint.states import agree, write_shards
from labkit.checkpoint.store import Store
from labkit.checkpoint.validation import Checkpoint

__all__ = ["AsyncSaver"]


class AsyncSaver:
    """`save` copies the state (torch's own stager, whose buffers stay) and returns; a thread writes and commits.

    One checkpoint at a time: `save` first waits for the one before. Collective calls where a process group is up, on a
    group of its own, so that the thread's messages never meet the training's. Close it, or use it in a ``with``.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._stager = DefaultStager(StagingOptions(False, False, False, False))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._held = ExitStack()  # the store's lock and the staged folder, on rank 0
        self._pending: Future[Checkpoint | None] | None = None
        self.write_s = 0.0  # what the thread took for the last one

    def __enter__(self) -> AsyncSaver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, step: int, state: dict[str, Any], *, parent: str | None = None) -> Checkpoint | None:
        """Start one; the checkpoint before it, now published, or None. Raises what that one's writing raised."""
        before = self.wait()
        staged = agree(lambda: self._held.enter_context(self.store.writing(step)), self._group)
        copied = self._stager.stage(state)
        self._pending = self._thread.submit(self._write, copied, staged, step, parent)
        return before

    def wait(self) -> Checkpoint | None:
        """Until what was started is published; None when nothing was."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        with self._held:  # lets go of the store's lock, and puts its own words on what failed
            wait([pending])  # a rank that failed, too, must be there when rank 0 tells
            return agree(pending.result, self._group)

    def close(self) -> None:
        """Wait for the last one, and let its thread and buffers go."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._stager.close()

    def _write(self, state: Any, staged: Path, step: int, parent: str | None) -> Checkpoint | None:
        started = time.perf_counter()
        write_shards(state, staged, self._group)
        done = None
        if self._group is None or dist.get_rank() == 0:
            world_size = 1 if self._group is None else dist.get_world_size()
            done = self.store.commit(staged, step, parent=parent, world_size=world_size)
        self.write_s = time.perf_counter() - started
        return done
