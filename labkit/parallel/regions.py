"""Where a tensor-parallel layer begins and ends: each operator's backward is its partner's forward.

A layer that several ranks share begins with the same input on all of them and ends with a part of a sum on each. Its
two ends are Megatron's f and g (Shoeybi et al. 2019, figure 3): one all-reduce forward, one backward. With sequence
parallelism (Korthikanti et al. 2022, section 4.2) every rank keeps its own tokens between layers, and each all-reduce
falls into an all-gather and a reduce-scatter, which send the same bytes.

x is (..., T, hidden_size) everywhere, and T is divided by the world size where a sequence is shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from labkit.errors import UsageError

__all__ = [
    "Group",
    "copy_to_region",
    "gather_from_sequence",
    "join_from_sequence",
    "reduce_from_region",
    "reduce_scatter_to_sequence",
    "split_to_sequence",
]

Group = dist.ProcessGroup | None  # None: all ranks
SEQUENCE = -2  # the dimension of tokens


def copy_to_region(x: Tensor, group: Group = None) -> Tensor:
    """f: the same x on every rank; its gradient is summed over the ranks, each of which used x for its own part."""
    return _region(x, _keep, _all_reduce, group)


def reduce_from_region(x: Tensor, group: Group = None) -> Tensor:
    """g: the ranks' parts of a sum become the sum on every rank; its gradient is the same for each part."""
    return _region(x, _all_reduce, _keep, group)


def gather_from_sequence(x: Tensor, group: Group = None) -> Tensor:
    """f with a shared sequence: (..., T / world_size, H) -> (..., T, H); its gradient is reduce-scattered."""
    return _region(x, _all_gather, _reduce_scatter, group)


def reduce_scatter_to_sequence(x: Tensor, group: Group = None) -> Tensor:
    """g with a shared sequence: parts of a sum (..., T, H) -> the sum for this rank's (..., T / world_size, H)."""
    return _region(x, _reduce_scatter, _all_gather, group)


def split_to_sequence(x: Tensor, group: Group = None) -> Tensor:
    """Keep this rank's tokens of what every rank holds: (..., T, H) -> (..., T / world_size, H). Forward is free."""
    return _region(x, _own_tokens, _all_gather, group)


def join_from_sequence(x: Tensor, group: Group = None) -> Tensor:
    """(..., T / world_size, H) -> (..., T, H) for a part that all ranks then compute alike: no sum of gradients."""
    return _region(x, _all_gather, _own_tokens, group)


Operation = Callable[[Tensor, Group], Tensor]


class _Region(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Operation, backward: Operation, group: Group) -> Tensor:
        ctx.operation, ctx.group = backward, group
        return forward(x, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.operation(gradient, ctx.group), None, None, None


def _region(x: Tensor, forward: Operation, backward: Operation, group: Group) -> Tensor:
    if x.dim() < 2 and forward is not _keep and backward is not _keep:
        raise UsageError(f"A shared sequence needs x of (..., T, hidden_size); got the shape {tuple(x.shape)}.")
    result: Tensor = _Region.apply(x, forward, backward, group)  # type: ignore[no-untyped-call]
    return result


def _keep(x: Tensor, group: Group) -> Tensor:
    return x.view_as(x)


def _all_reduce(x: Tensor, group: Group) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)  # the caller's own may still be needed
    dist.all_reduce(total, group=group)
    return total


def _all_gather(x: Tensor, group: Group) -> Tensor:
    mine = x.movedim(SEQUENCE, 0).contiguous()  # (T / n, ..., H): the collective joins along the first dimension
    whole = mine.new_empty(mine.shape[0] * dist.get_world_size(group), *mine.shape[1:])
    dist.all_gather_single(whole, mine, group=group)
    return whole.movedim(0, SEQUENCE).contiguous()


def _reduce_scatter(x: Tensor, group: Group) -> Tensor:
    parts = x.movedim(SEQUENCE, 0).contiguous()  # (T, ..., H)
    mine = parts.new_empty(_tokens_per_rank(parts.shape[0], group), *parts.shape[1:])
    dist.reduce_scatter_single(mine, parts, group=group)
    return mine.movedim(0, SEQUENCE).contiguous()


def _own_tokens(x: Tensor, group: Group) -> Tensor:
    number = _tokens_per_rank(x.shape[SEQUENCE], group)
    return x.narrow(SEQUENCE, dist.get_rank(group) * number, number).contiguous()


def _tokens_per_rank(num_tokens: int, group: Group) -> int:
    world_size = dist.get_world_size(group)
    if num_tokens % world_size:
        padded = -(-num_tokens // world_size) * world_size
        raise UsageError(
            f"With a shared sequence world_size must divide its tokens; got {world_size} and {num_tokens}. "
            f"Pad the sequence to {padded}."
        )
    return num_tokens // world_size
