"""Do all ranks mean the same? Asked before the first collective that would hang or add up what does not belong."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor

from labkit.errors import UsageError

__all__ = ["check_agreement", "fingerprint"]


def check_agreement(mine: Mapping[str, Any], why: str, group: dist.ProcessGroup | None = None) -> None:
    """Compare ``mine`` (small plain data) with every rank's; UsageError on all of them, naming the first that differs.

    A collective: every rank of the group must call it. ``why``: a sentence's beginning that says what must be equal.
    """
    all_of_them: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(all_of_them, dict(mine), group=group)
    first = all_of_them[0]
    for rank, other in enumerate(all_of_them):
        for name in first:
            if other.get(name) != first[name]:
                raise UsageError(
                    f"{why}, so all ranks must give the same {name}; rank 0 gave {first[name]!r} and rank {rank} "
                    f"{other.get(name)!r}. Give every rank what rank 0 gives."
                )


def fingerprint(tensor: Tensor) -> dict[str, Any]:
    """A tensor's shape, dtype and the checksum of its values, to be compared."""
    values = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"shape": tuple(tensor.shape), "dtype": str(tensor.dtype), "values (by their checksum)": values}
