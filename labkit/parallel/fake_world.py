"""Worlds larger than the machine: torch's real FSDP and tensor-parallel code over a process group that sends nothing.

Tensors are fake (shapes without data), collectives return at once; what is counted, storages and calls, is what every
rank of the real world would hold and say. One fresh process does it, so that no fake group stays behind.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from labkit import launch
from labkit.errors import UsageError
from labkit.measure import OnProgress
from labkit.models import TransformerConfig
from labkit.parallel.activations import RECOMPUTE
from labkit.parallel.moments import MemoryUse
from labkit.parallel.traffic import Call

__all__ = ["FakeStep", "FakeWorld", "run_fake_worlds"]

MOST_RANKS = 1_000_000  # a typing error, not a cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeWorld:
    """One training step to be counted: fully_shard over world_size / tp ranks, tensor parallel over tp."""

    config: TransformerConfig
    world_size: int
    tp: int = 1
    stage: int = 3
    micro_batch: int = 1
    seq_len: int = 128
    precision: str = "fsdp-fp32"
    recompute: str = "none"

    def __post_init__(self) -> None:
        for name in ("world_size", "tp", "micro_batch", "seq_len"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_RANKS:
                raise UsageError(f"{name} must be a whole number from 1 to {MOST_RANKS:,}; got {value!r}.")
        if self.stage not in (2, 3):
            raise UsageError(f"A fake world runs fully_shard, which is like stage 2 or 3; got stage {self.stage!r}.")
        if self.recompute not in RECOMPUTE or self.recompute == "selective":
            raise UsageError(f'recompute must be "none" or "full" here; got {self.recompute!r}.')
        if self.world_size % self.tp:
            fits = ", ".join(str(n) for n in range(1, min(self.world_size, 64) + 1) if self.world_size % n == 0)
            raise UsageError(f"tp must divide world_size; got {self.tp} and {self.world_size}. Use one of {fits}.")

    @property
    def dp(self) -> int:
        return self.world_size // self.tp


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeStep:
    """What rank 0 of that world holds at its worst moment, and all that it says in one step."""

    world: FakeWorld
    memory: MemoryUse
    calls: tuple[Call, ...]

    def num_calls(self, op: str) -> int:
        return sum(call.op == op for call in self.calls)

    def payload_bytes(self, op: str) -> int:
        return sum(call.num_bytes for call in self.calls if call.op == op)

    @property
    def bytes_sent(self) -> float:
        """By ring, a mean over ranks."""
        return sum(call.bytes_sent for call in self.calls)


def run_fake_worlds(
    worlds: Sequence[FakeWorld], *, deadline_s: float = 300.0, on_progress: OnProgress | None = None
) -> tuple[FakeStep, ...]:
    """One step in each world, in one process of its own, one world after the other: seconds each."""
    if not worlds:
        raise UsageError("run_fake_worlds needs at least one FakeWorld; got none.")
    done = launch.run(_count_all, tuple(worlds), ranks=1, backend=None, deadline_s=deadline_s, on_progress=on_progress)
    steps: tuple[FakeStep, ...] = done.values[0]
    return steps


def _count_all(worlds: Sequence[FakeWorld]) -> tuple[FakeStep, ...]:
    with warnings.catch_warnings():
        # Tokens need no gradient, and the tracker hooks the embedding all the same: torch says so at every step.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        return tuple(_count(world) for world in worlds)


def _count(world: FakeWorld) -> FakeStep:
    import torch
    import torch.distributed as dist
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from labkit.models import Transformer
    from labkit.parallel.fully_sharded import checkpoint_blocks, loss_of, shard_blocks
    from labkit.parallel.tensor_torch import parallelize
    from labkit.parallel.tracked_memory import tracked_peak
    from labkit.parallel.traffic import count_traffic

    dist.init_process_group("fake", rank=0, world_size=world.world_size, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (world.dp, world.tp), mesh_dim_names=("dp", "tp"))
        dp_mesh, tp_mesh = mesh["dp"], mesh["tp"]
        with torch.device("meta"):  # shapes alone, until the layout stands
            model = Transformer(world.config)
        if world.tp > 1:
            parallelize(model, tp_mesh)
        if world.recompute == "full":
            checkpoint_blocks(model)
        shard_blocks(model, dp_mesh, stage=world.stage, precision=world.precision)
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu")
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)  # one kernel, no temporaries
            tokens = torch.randint(0, world.config.vocab_size, (world.micro_batch, world.seq_len))

            def step() -> None:
                loss_of(model, tokens).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()

            memory = tracked_peak(model, optimizer, step, (tokens,))
            with count_traffic() as traffic:
                step()
    finally:
        dist.destroy_process_group()
    return FakeStep(world=world, memory=memory, calls=traffic.calls)
