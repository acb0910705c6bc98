"""One ZeRO stage tried for real, from inside a rank: what its step holds, sends and learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from labkit.errors import UsageError
from labkit.models import Transformer, TransformerConfig
from labkit.parallel.fully_sharded import checkpoint_blocks, loss_of, shard_blocks
from labkit.parallel.moments import MemoryUse
from labkit.parallel.sharded import zero
from labkit.parallel.tracked_memory import tracked_peak
from labkit.parallel.traffic import Call, count_traffic

__all__ = ["StageTrial", "try_stage", "try_stages"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTrial:
    """memory: the tracked peak on this rank; calls: all that one step says; losses: means over ranks, step by step."""

    stage: int
    recompute: str
    memory: MemoryUse
    calls: tuple[Call, ...]
    losses: tuple[float, ...]

    @property
    def bytes_sent(self) -> float:
        return sum(call.bytes_sent for call in self.calls)


def try_stage(
    config: TransformerConfig,
    *,
    stage: int,
    micro_batch: int,
    seq_len: int,
    recompute: str = "none",
    seed: int = 0,
) -> StageTrial:
    """Train from the same weights on the same tokens at one stage; call it on every rank of a group.

    Stage 0 is DDP, 1 is by hand, 2 and 3 are ``fully_shard``; all in fp32 with AdamW.
    """
    if recompute not in ("none", "full"):
        raise UsageError(f'recompute must be "none" or "full" here; got {recompute!r}.')
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    torch.manual_seed(seed)
    model: nn.Module = Transformer(config).to(device)
    if recompute == "full":
        checkpoint_blocks(model)
    ranks = dist.get_world_size()
    model, optimizer, update = _sharded(model, stage, init_device_mesh(device.type, (ranks,)))
    generator = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(0, config.vocab_size, (ranks * micro_batch, seq_len), generator=generator)
    mine = tokens.chunk(ranks)[dist.get_rank()].to(device)
    losses: list[Tensor] = []

    def step() -> None:
        loss = loss_of(model, mine)
        loss.backward()  # type: ignore[no-untyped-call]
        update()
        losses.append(loss.detach())

    step()  # DDP makes its buckets anew after the first step
    memory = tracked_peak(model, optimizer, step, (mine,), repeats=2)
    with count_traffic() as traffic:
        step()
    together = torch.stack(losses)
    dist.all_reduce(together)
    means = (together / ranks).tolist()
    return StageTrial(stage=stage, recompute=recompute, memory=memory, calls=traffic.calls, losses=tuple(means))


def try_stages(
    config: TransformerConfig, ways: Sequence[tuple[int, str]], micro_batch: int, seq_len: int, seed: int = 0
) -> tuple[StageTrial, ...]:
    """`try_stage` for each (stage, recompute), one after the other."""
    options = {"micro_batch": micro_batch, "seq_len": seq_len, "seed": seed}
    return tuple(try_stage(config, stage=stage, recompute=recompute, **options) for stage, recompute in ways)


def _sharded(
    model: nn.Module, stage: int, mesh: DeviceMesh
) -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], None]]:
    """The model to call, the optimizer, and what to do after a backward."""
    if stage == 1:
        sharded = zero(model, _adamw, stage=1)
        return model, sharded.optimizer, sharded.step
    if stage == 0:
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    else:
        shard_blocks(model, mesh, stage=stage)
    optimizer = _adamw(list(model.parameters()))

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=stage > 0)  # DDP keeps its buckets

    return model, optimizer, update


def _adamw(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, fused=True)
