"""What a checkpoint costs the training that makes it: each way of writing in turns, in one process group."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import UsageError
from labkit.launch import run
from labkit.measure import OnProgress
from labkit.models import TransformerConfig

__all__ = ["WriteTimes", "measure_writes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteTimes:
    """Seconds of each round. stall: training stood still in the call; added: what the whole round took more than the
    same steps without a checkpoint, so that what a writing thread takes from the steps counts, too."""

    state_bytes: int
    files: int
    ranks: int
    plain_s: tuple[float, ...]  # the round's steps, nothing written
    sync_stall_s: tuple[float, ...]
    async_stall_s: tuple[float, ...]
    async_added_s: tuple[float, ...]
    async_write_s: tuple[float, ...]  # of the thread
    read_s: tuple[float, ...]  # hashing and loading it again

    @property
    def sync_bytes_per_s(self) -> tuple[float, ...]:
        return tuple(self.state_bytes / seconds for seconds in self.sync_stall_s)


def measure_writes(
    configs: Sequence[TransformerConfig],
    *,
    ranks: int = 1,
    rounds: int = 5,
    steps: int = 4,
    folder: Path | None = None,
    deadline_s: float = 300.0,
    on_progress: OnProgress | None = None,
) -> list[WriteTimes]:
    """Of each model, one after the other. steps: of training in a round, into which an asynchronous write should fit.

    folder: where checkpoints are written (default: a temporary one), removed again afterwards. The first round of each
    model warms up and is not counted. UsageError: no model, rank, round or step.
    """
    if not configs or min(ranks, rounds, steps) < 1:
        raise UsageError(
            f"Writes need a model, a rank, a round and a step; got {len(configs)}, {ranks}, {rounds} and {steps}."
        )
    with tempfile.TemporaryDirectory(prefix="labkit-checkpoints-", dir=folder) as name:
        launched = run(_each, configs, rounds, steps, name, ranks=ranks, deadline_s=deadline_s, on_progress=on_progress)
    times: list[WriteTimes] = launched.values[0]
    return times


def _each(configs: Sequence[TransformerConfig], rounds: int, steps: int, root: str) -> list[WriteTimes]:
    return [_rounds(config, rounds, steps, f"{root}/{index}") for index, config in enumerate(configs)]


def _rounds(config: TransformerConfig, rounds: int, steps: int, root: str) -> WriteTimes:
    import torch
    import torch.distributed as dist

    from labkit.checkpoint.background import AsyncSaver
    from labkit.checkpoint.states import fingerprint, load, pull_state, save
    from labkit.checkpoint.store import Store
    from labkit.checkpoint.training import Job, build, loss_of

    job = Job(folder=Path(root), config=config, batch_size=2 * dist.get_world_size(), seq_len=64)
    model, optimizer = build(job)
    store = Store(job.folder, model=fingerprint(model), keep=1)

    def train(number: int) -> None:
        for step in range(steps):
            optimizer.zero_grad()
            torch.autograd.backward(loss_of(job, model, 100 * number + step))
            optimizer.step()

    def timed(call: Callable[..., object], *args: object) -> float:
        dist.barrier()
        started = time.perf_counter()
        call(*args)
        return time.perf_counter() - started

    def read(number: int, state: dict[str, object]) -> None:
        load(store.load(number), state)

    rows = []
    with AsyncSaver(store) as saver:
        for number in range(rounds + 1):
            plain_s = timed(train, number)
            state = pull_state(model, optimizer, 2 * number)
            sync_s = timed(save, store, 2 * number, state)
            stall_s = timed(saver.save, 2 * number + 1, state)
            round_s = stall_s + timed(train, number)
            saver.wait()
            rows.append(
                (plain_s, sync_s, stall_s, round_s - plain_s, saver.write_s, timed(read, 2 * number + 1, state))
            )
        found = store.latest()
    assert found is not None
    columns = list(zip(*rows[1:], strict=True))  # the first warms up
    names = ("plain_s", "sync_stall_s", "async_stall_s", "async_added_s", "async_write_s", "read_s")
    return WriteTimes(
        state_bytes=found.num_bytes,
        files=len(found.manifest.files),
        ranks=dist.get_world_size(),
        **dict(zip(names, columns, strict=True)),
    )
