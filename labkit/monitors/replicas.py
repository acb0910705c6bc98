"""Replicas that should be equal to the last bit, and are asked whether they are."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.errors import UsageError
from labkit.monitors.alert import Alert

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ReplicaMonitor", "checksums", "flip_bit", "gather_checksums"]


class ReplicaMonitor:
    """Compares checksums of the same weights on several ranks. No threshold: they are equal, or they are not.

    The odd one out is named where a majority agrees; two ranks only learn that one of them is wrong. What alerted stays
    quiet until the ranks agree again: a difference does not go away by itself.
    """

    def __init__(self) -> None:
        self._apart: set[str] = set()

    def update(self, step: int, by_rank: Sequence[Mapping[str, int]]) -> list[Alert]:
        """by_rank: name -> checksum on each rank. UsageError: fewer than two ranks, or ranks with other names."""
        if len(by_rank) < 2:
            raise UsageError(f"Replicas are compared among at least 2 ranks; got {len(by_rank)}.")
        if any(one.keys() != by_rank[0].keys() for one in by_rank):
            raise UsageError("Every rank must give checksums of the same names. Give each the model that rank 0 has.")
        alerts = []
        for name in by_rank[0]:
            sums = [one[name] for one in by_rank]
            if len(set(sums)) == 1:
                self._apart.discard(name)
            elif name not in self._apart:
                self._apart.add(name)
                alerts.append(_alert(step, name, sums))
        return alerts


def checksums(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """CRC-32 of each tensor's bytes. It is linear, so no single flipped bit leaves it as it was; what is random passes
    once in 2³²."""
    import torch

    return {
        name: zlib.crc32(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
        for name, tensor in tensors.items()
    }


def gather_checksums(tensors: Mapping[str, Tensor]) -> list[dict[str, int]]:
    """Every rank's checksums, on every rank: a collective of a few bytes a tensor."""
    import torch.distributed as dist

    everybody: list[dict[str, int]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everybody, checksums(tensors))
    return everybody


def flip_bit(tensor: Tensor, index: int, bit: int) -> None:
    """Flip one bit of one element in place, as a faulty memory does. bit: 0 is the lowest of the mantissa."""
    import torch

    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    width = 8 * tensor.element_size()
    if not (0 <= index < tensor.numel() and 0 <= bit < width):
        raise UsageError(f"The tensor has {tensor.numel()} elements of {width} bits; got element {index}, bit {bit}.")
    if not tensor.is_contiguous():
        raise UsageError("A bit is flipped in a tensor that lies in one piece. Give tensor.contiguous() or its base.")
    with torch.no_grad():
        flat = tensor.detach().view(integers).view(-1)
        mask = -(1 << bit) if bit == width - 1 else 1 << bit  # the top bit of a signed integer is its sign
        flat[index] ^= mask


def _alert(step: int, name: str, sums: list[int]) -> Alert:
    (common, votes), *_ = Counter(sums).most_common()
    if 2 * votes > len(sums):
        odd = [rank for rank, one in enumerate(sums) if one != common]
        where = ", ".join(f"rank {rank}" for rank in odd)
        told = f"{name} differs from the {votes} ranks that agree"
    else:
        where, told = "no majority", f"{name} differs, and no majority says which rank is right"
    evidence = {"tensor": name, "checksums": [f"{one:08x}" for one in sums]}
    return Alert(monitor="bit flip", step=step, where=where, message=told, evidence=evidence)
