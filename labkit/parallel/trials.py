"""Training steps of data parallel, timed for several numbers of ranks in turns, in one launch of all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.launch import run
from labkit.measure import OnProgress
from labkit.models import TransformerConfig
from labkit.parallel.links import Link
from labkit.units import MIB

__all__ = ["Groups", "StepTimes", "Trial", "Watch", "measure_steps", "prepare_step"]


Groups = dict[tuple[Link | None, int], Any]  # link, None for this machine's own, and number of ranks -> their group
Watch = Callable[[int, float, float], None]  # as data.DataParallel's


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One way to take a step. batch_size: sequences of each rank. link: a throttled one, else this machine's own.

    sync=False: compute alone, nothing is reduced. slow_rank: the rank, if any, that does forward and backward twice.
    """

    num_ranks: int
    batch_size: int
    link: Link | None = None
    bucket_bytes: int = 25 * MIB
    overlap: bool = True
    sync: bool = True
    by_torch: bool = False
    slow_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Seconds of each round's step, by part, of the rank that took longest; rank_s: the whole step of each rank."""

    forward_s: NDArray[np.float64]
    backward_s: NDArray[np.float64]
    update_s: NDArray[np.float64]
    rank_s: NDArray[np.float64]  # (rounds, ranks)

    @property
    def step_s(self) -> NDArray[np.float64]:
        slowest: NDArray[np.float64] = self.rank_s.max(axis=1)
        return slowest


def measure_steps(
    config: TransformerConfig,
    trials: Sequence[Trial],
    *,
    seq_len: int = 64,
    rounds: int = 5,
    warmup: int = 1,
    deadline_s: float = 300.0,
    on_progress: OnProgress | None = None,
) -> list[StepTimes]:
    """Take every trial's step in turns, round after round, so that a machine that drifts treats all alike.

    The ranks of the largest trial are launched once; those that a smaller trial leaves out wait, which takes no core.
    UsageError: no trial, or sizes that make none.
    """
    if not trials or rounds < 1 or warmup < 0:
        raise UsageError(f"Steps need a trial, a round and no negative warm-up; got {len(trials)}, {rounds}, {warmup}.")
    if any(trial.num_ranks < 1 or trial.batch_size < 1 for trial in trials):
        raise UsageError("A trial needs at least one rank and one sequence for each.")
    most = max(trial.num_ranks for trial in trials)
    launched = run(
        _take_steps, config, list(trials), seq_len, rounds, warmup,
        ranks=most, backend="gloo", deadline_s=deadline_s, on_progress=on_progress,
    )  # fmt: skip
    out = []
    for index, trial in enumerate(trials):
        parts = np.array([value[index] for value in launched.values[: trial.num_ranks]])  # (ranks, rounds, 3)
        whole = parts.sum(axis=2).T  # (rounds, ranks)
        slowest = parts[whole.argmax(axis=1), np.arange(rounds)]  # (rounds, 3)
        forward_s, backward_s, update_s = slowest.T
        out.append(StepTimes(forward_s=forward_s, backward_s=backward_s, update_s=update_s, rank_s=whole))
    return out


def _take_steps(
    config: TransformerConfig, trials: list[Trial], seq_len: int, rounds: int, warmup: int
) -> list[list[tuple[float, float, float]]]:
    """On one rank: (forward, backward, update) in s by trial and round; nothing for the trials without this rank."""
    import torch.distributed as dist

    rank = dist.get_rank()
    taken: list[list[tuple[float, float, float]]] = [[] for _ in trials]
    with ExitStack() as stack:
        groups: Groups = {}
        steps = [prepare_step(stack, groups, config, trial, seq_len) for trial in trials]
        for number in range(warmup + rounds):
            for index, (trial, step) in enumerate(zip(trials, steps, strict=True)):
                dist.barrier()
                if rank < trial.num_ranks:
                    start, forward, backward, end = step()
                    if number >= warmup:
                        taken[index].append((forward - start, backward - forward, end - backward))
        dist.barrier()
    return taken


def prepare_step(
    stack: ExitStack, groups: Groups, config: TransformerConfig, trial: Trial, seq_len: int, watch: Watch | None = None
) -> Any:
    """Everything that a step of this trial needs, made by all ranks together; the step gives four readings of the
    clock: start, after forward, backward and update. groups: what trials before have opened on ``stack``."""
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F

    from labkit.models import Transformer
    from labkit.parallel.data import DataParallel
    from labkit.parallel.throttle import throttled

    ranks, link = tuple(range(trial.num_ranks)), trial.link if trial.num_ranks > 1 else None
    if (link, trial.num_ranks) not in groups:
        opened = stack.enter_context(throttled(link, ranks=ranks)) if link else dist.new_group(list(ranks))
        groups[link, trial.num_ranks] = opened
    group = groups[link, trial.num_ranks]
    if dist.get_rank() not in ranks:
        return None
    transformer = Transformer(config)
    if trial.by_torch:
        torch_options = {"process_group": group, "bucket_cap_mb": trial.bucket_bytes / MIB}
        module: Any = torch.nn.parallel.DistributedDataParallel(transformer, **torch_options)
    else:
        module = DataParallel(transformer, group, bucket_bytes=trial.bucket_bytes, overlap=trial.overlap, watch=watch)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    times_over = 2 if dist.get_rank() == trial.slow_rank else 1
    tokens = torch.randint(config.vocab_size, (trial.batch_size, seq_len + 1))

    def step() -> list[float]:
        clock = [time.perf_counter()]
        optimizer.zero_grad()
        for turn in range(times_over):
            last = turn == times_over - 1
            with nullcontext() if trial.sync and last else module.no_sync():
                logits = module(tokens[:, :-1])  # (B, T) -> (B, T, vocab_size)
                loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
                if turn == 0:
                    clock.append(time.perf_counter())
                loss.backward()  # type: ignore[no-untyped-call]
        clock.append(time.perf_counter())
        optimizer.step()
        clock.append(time.perf_counter())
        return clock

    return step
