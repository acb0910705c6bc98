"""The same by torch's own ``fully_shard`` (FSDP2), block by block, and activation checkpointing beside it."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from labkit.errors import UsageError
from labkit.parallel.precision import PRECISIONS
from labkit.parallel.sharded import blocks_of

__all__ = ["checkpoint_blocks", "loss_of", "shard_blocks"]

M = TypeVar("M", bound=nn.Module)


def shard_blocks(model: M, mesh: DeviceMesh | None = None, *, stage: int = 3, precision: str = "fsdp-fp32") -> M:
    """``fully_shard`` on each block and on the rest, in place. Stage 3 lets a block go after its forward, 2 does not.

    mesh: one dimension, default all ranks. precision: "fsdp-fp32", or "fsdp-bf16" (compute in bfloat16, sum in fp32).
    Make the optimizer afterwards. UsageError: another stage (ZeRO 1 shards no gradients; fully_shard always does).
    """
    if stage not in (2, 3):
        raise UsageError(f"fully_shard is like stage 2 or 3; got {stage!r}. For stage 1 use sharded.zero(stage=1).")
    bits = PRECISIONS.get(precision)
    if bits is None or not bits.gathers:
        raise UsageError(f'precision must be "fsdp-fp32" or "fsdp-bf16"; got {precision!r}.')
    widths = {4: torch.float32, 2: torch.bfloat16}
    policy = MixedPrecisionPolicy(param_dtype=widths[bits.compute_bytes], reduce_dtype=widths[bits.reduce_bytes])
    modules: list[nn.Module] = [*blocks_of(model), model]
    for module in modules:
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=stage == 3)
    return model


def checkpoint_blocks(model: M) -> M:
    """Keep only each block's input for the backward and run its forward again there, in place; before sharding."""
    layers = model.layers
    assert isinstance(layers, nn.ModuleList)
    for index, block in enumerate(blocks_of(model)):
        layers[index] = checkpoint_wrapper(block)
    return model


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of each token's own prediction, in fp32: (B, T) -> (). Keeps no name on the logits.

    A name would keep them, (B, T, vocab_size), alive through the whole backward.
    """
    return torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1).float(), tokens.flatten())
