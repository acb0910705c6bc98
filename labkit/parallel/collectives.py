"""All-reduce by hand, over nothing but sends and receives: as a ring, and as a tree.

A ring cuts the tensor into as many chunks as there are ranks and sends a chunk a step: 2·(n − 1) steps, 2·(n − 1)/n of
the tensor sent by each rank, the fewest bytes possible. A tree sends whole tensors, but takes only 2·log₂ n steps: it
wins where latency counts and bytes do not. Source: Thakur, Rabenseifner and Gropp (2005); Patarasu and Yuan (2009).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from labkit.parallel.agreement import check_agreement
from labkit.units import MIB

__all__ = ["ring_all_gather", "ring_all_reduce", "ring_reduce_scatter", "tree_all_reduce"]

SEGMENT_BYTES = 4 * MIB  # what came is added while the next segment travels

Group = dist.ProcessGroup | None


@torch.no_grad()
def ring_all_reduce(tensor: Tensor, group: Group = None, *, checked: bool = True) -> None:
    """Replace ``tensor``, on every rank of the group, by the sum over the ranks.

    Sends 2·(n − 1) chunks of ⌈numel/n⌉ values: where n divides numel, `cost.ring_all_reduce_bytes` to the byte.
    UsageError on every rank where shapes or dtypes differ; ``checked=False`` leaves that question (a collective of its
    own, a few hundred bytes) out, and ranks that differ then hang or add up what does not belong together.
    """
    if checked:
        _check_same(tensor, "A ring all-reduce adds up equal tensors", group)
    chunks = _chunks(tensor, group)  # (n, m); shares the tensor's memory where n divides it
    _reduce_scatter(chunks, group)
    _all_gather(chunks, group)
    if chunks.data_ptr() != tensor.data_ptr():
        tensor.copy_(chunks.view(-1)[: tensor.numel()].view_as(tensor))


@torch.no_grad()
def ring_reduce_scatter(tensor: Tensor, group: Group = None, *, checked: bool = True) -> Tensor:
    """This rank's chunk of the sum over the ranks: any shape -> (⌈numel/n⌉,); ``tensor`` stays as it is.

    Where n does not divide numel, the last chunks end in zeros.
    """
    if checked:
        _check_same(tensor, "A ring reduce-scatter adds up equal tensors", group)
    chunks = _chunks(tensor, group)
    if chunks.data_ptr() == tensor.data_ptr():
        chunks = chunks.clone()
    _reduce_scatter(chunks, group)
    return chunks[dist.get_rank(group)].clone()


@torch.no_grad()
def ring_all_gather(chunk: Tensor, group: Group = None, *, checked: bool = True) -> Tensor:
    """The chunks of all ranks in their order: (m,) on each -> (n·m,) on each."""
    if checked:
        _check_same(chunk, "A ring all-gather joins equal chunks", group)
    chunks = chunk.new_empty((dist.get_world_size(group), chunk.numel()))
    chunks[dist.get_rank(group)] = chunk.reshape(-1)
    _all_gather(chunks, group)
    return chunks.view(-1)


@torch.no_grad()
def tree_all_reduce(tensor: Tensor, group: Group = None, *, checked: bool = True) -> None:
    """The same sum up a binomial tree to rank 0 and down again: ⌈log₂ n⌉ steps each way, whole tensors.

    A rank sends its tensor once up, and once down to each of its children; rank 0 has ⌈log₂ n⌉ of them.
    """
    if checked:
        _check_same(tensor, "A tree all-reduce adds up equal tensors", group)
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    total, incoming = tensor.contiguous(), torch.empty_like(tensor, memory_format=torch.contiguous_format)
    strides = [2**level for level in range((size - 1).bit_length())]  # 1, 2, 4, …: how far apart the partners are
    for stride in strides:
        if rank % (2 * stride) == stride:
            dist.send(total, group=group, group_dst=rank - stride)
        elif rank % (2 * stride) == 0 and rank + stride < size:
            dist.recv(incoming, group=group, group_src=rank + stride)
            total += incoming
    for stride in reversed(strides):
        if rank % (2 * stride) == stride:
            dist.recv(total, group=group, group_src=rank - stride)
        elif rank % (2 * stride) == 0 and rank + stride < size:
            dist.send(total, group=group, group_dst=rank + stride)
    if total.data_ptr() != tensor.data_ptr():
        tensor.copy_(total)


def _reduce_scatter(chunks: Tensor, group: Group) -> None:
    """(n, m): afterwards row ``rank`` is the sum over the ranks; the other rows are partial sums."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    incoming = torch.empty_like(chunks[0])
    for step in range(size - 1):
        mine, theirs = chunks[(rank - step - 1) % size], chunks[(rank - step - 2) % size]
        for part in _pass_on(mine, incoming, group):
            theirs[part] += incoming[part]


def _all_gather(chunks: Tensor, group: Group) -> None:
    """(n, m): each row comes from the rank of its number."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    for step in range(size - 1):
        mine, theirs = chunks[(rank - step) % size], chunks[(rank - step - 1) % size]
        for _ in _pass_on(mine, theirs, group):
            pass


def _pass_on(mine: Tensor, incoming: Tensor, group: Group) -> Iterator[slice]:
    """Send to the right neighbour and receive from the left, at once; yields each segment when it has come."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    length = max(1, SEGMENT_BYTES // mine.element_size())
    parts = [slice(start, start + length) for start in range(0, mine.numel(), length)]
    works = []
    for part in parts:
        # A pair at a time, batched: NCCL, too, then does both at once and cannot wait for itself
        send = dist.P2POp(dist.isend, mine[part], group=group, group_peer=(rank + 1) % size)
        receive = dist.P2POp(dist.irecv, incoming[part], group=group, group_peer=(rank - 1) % size)
        works.append(dist.batch_isend_irecv([send, receive]))
    for part, pair in zip(parts, works, strict=True):
        pair[-1].wait()
        yield part
    for pair in works:
        pair[0].wait()


def _chunks(tensor: Tensor, group: Group) -> Tensor:
    """As (n, ⌈numel/n⌉), padded with zeros; the tensor's own memory where nothing is to be padded."""
    size, flat = dist.get_world_size(group), tensor.reshape(-1)
    missing = -flat.numel() % size
    return (torch.cat([flat, flat.new_zeros(missing)]) if missing else flat).view(size, -1)


def _check_same(tensor: Tensor, why: str, group: Group) -> None:
    check_agreement({"shape": tuple(tensor.shape), "dtype": str(tensor.dtype)}, why, group)
