"""Four rungs of one model on real ranks: replicas, sharded replicas, split layers, stages; each a step to be timed.

The parts are those of this library and of torch: DDP, ``fully_shard``, ``parallelize_module``, the hand-written 1F1B.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from labkit.errors import UsageError
from labkit.models import Transformer, TransformerConfig
from labkit.parallel.links import Link
from labkit.parallel.pipeline import Pipeline, next_token_loss
from labkit.parallel.schedules import one_f_one_b
from labkit.parallel.tensor_torch import parallelize
from labkit.parallel.throttle import throttled
from labkit.parallel.traffic import Traffic, count_traffic

__all__ = ["RUNGS", "RungTimes", "time_rungs"]

RUNGS = ("data", "sharded", "tensor", "pipeline")
BUCKET_MB = 4  # torch's 25 would hold all of a small model, and nothing could travel before the backward's end
Step = Callable[[], float | None]  # forward and backward of the whole batch; the loss, where this rank knows it


@dataclass(frozen=True, slots=True, kw_only=True)
class RungTimes:
    """What one rank saw. seconds: by rung and round, until the slowest rank was done; alone_s: its share of the batch
    with no word to anybody; calls and sent_bytes: of one step, by rung; losses: of the first step, by rung."""

    seconds: Mapping[str, tuple[float, ...]]
    alone_s: tuple[float, ...]
    calls: Mapping[str, int]
    sent_bytes: Mapping[str, float]
    losses: Mapping[str, float]


def time_rungs(
    config: TransformerConfig,
    batch_size: int,
    seq_len: int,
    *,
    num_microbatches: int,
    link: Link | None = None,
    rounds: int = 5,
    rungs: Sequence[str] = RUNGS,
    seed: int = 0,
) -> RungTimes:
    """Called inside a rank: time a forward and backward of one batch under each rung, in turns.

    link: what joins the ranks, None for the machine's own. Every rank must divide batch, heads and layers.
    """
    if unknown := [rung for rung in rungs if rung not in RUNGS]:
        raise UsageError(f"rungs must be of {', '.join(RUNGS)}; got {', '.join(unknown)}.")
    if batch_size % dist.get_world_size():
        raise UsageError(f"world_size must divide the batch; got {dist.get_world_size()} and {batch_size}.")
    torch.manual_seed(seed)
    tokens = torch.randint(config.vocab_size, (batch_size, seq_len))
    targets = torch.randint(config.vocab_size, (batch_size, seq_len))
    with throttled(link) if link else nullcontext() as group:
        steps: dict[str, Step] = {}
        for rung in rungs:
            torch.manual_seed(seed)  # every rung and every rank starts from the same weights
            steps[rung] = _step(rung, Transformer(config), tokens, targets, num_microbatches, group)
        counted, losses = {}, {}
        for rung, step in steps.items():  # the first step connects and allocates: it is counted, not timed
            with count_traffic() as traffic:
                losses[rung] = _mean_loss(step())
            counted[rung] = traffic
        alone = _alone(Transformer(config), tokens, targets)
        alone()
        seconds: dict[str, list[float]] = {rung: [] for rung in ("alone", *rungs)}
        for number in range(rounds):
            order = list(seconds)[:: 1 if number % 2 else -1]
            for rung in order:
                seconds[rung].append(_timed(alone if rung == "alone" else steps[rung]))
    return RungTimes(
        seconds={rung: tuple(seconds[rung]) for rung in rungs},
        alone_s=tuple(seconds["alone"]),
        calls={rung: _num_calls(traffic) for rung, traffic in counted.items()},
        sent_bytes={rung: traffic.bytes_sent for rung, traffic in counted.items()},
        losses=losses,
    )


def _step(rung: str, model: Transformer, tokens: Tensor, targets: Tensor, num_microbatches: int, group: Any) -> Step:
    if rung == "pipeline":
        schedule = one_f_one_b(dist.get_world_size(), num_microbatches)
        batch_size, seq_len = tokens.shape
        pipeline = Pipeline(model, schedule, batch_size=batch_size, seq_len=seq_len, group=group)
        return lambda: pipeline.step(tokens, targets).loss
    everybody: Any = group or dist.group.WORLD
    mesh = DeviceMesh.from_group(everybody, "cpu", mesh_dim_names=("ranks",))
    if rung == "tensor":
        return _whole_step(parallelize(model, mesh), tokens, targets)
    rank, size = dist.get_rank(), dist.get_world_size()
    mine = tokens.chunk(size)[rank], targets.chunk(size)[rank]
    if rung == "data":
        replicas = DistributedDataParallel(model, process_group=group, bucket_cap_mb=BUCKET_MB)
        return _whole_step(replicas, *mine)
    for block in model.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return _whole_step(model, *mine)


def _whole_step(model: torch.nn.Module, tokens: Tensor, targets: Tensor) -> Step:
    def step() -> float:
        model.zero_grad(set_to_none=True)
        loss = next_token_loss(model(tokens), targets)
        torch.autograd.backward(loss)
        return float(loss.detach())

    return step


def _alone(model: Transformer, tokens: Tensor, targets: Tensor) -> Step:
    """This rank's share of the batch, as if nobody else were there; all ranks do it at once."""
    rank, size = dist.get_rank(), dist.get_world_size()
    return _whole_step(model, tokens.chunk(size)[rank], targets.chunk(size)[rank])


def _timed(step: Step) -> float:
    """Seconds from when all ranks stood ready until the last was done."""
    dist.barrier()
    start = time.perf_counter()
    step()
    taken = torch.tensor(time.perf_counter() - start)
    dist.all_reduce(taken, dist.ReduceOp.MAX)
    return float(taken)


def _mean_loss(mine: float | None) -> float:
    """Over the ranks that know one: replicas know their part's, a pipeline's last stage knows the batch's."""
    known = torch.tensor([0.0 if mine is None else mine, 0.0 if mine is None else 1.0], dtype=torch.float64)
    dist.all_reduce(known)
    return float(known[0] / known[1])


def _num_calls(traffic: Traffic) -> int:
    """Collectives and messages of this rank; a received message was counted by its sender."""
    return len(traffic.calls) - traffic.num_calls("recv")
