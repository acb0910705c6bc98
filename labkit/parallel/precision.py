"""What a parameter costs in bytes: the conventions by which people count, and what torch's fully_shard keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PRECISIONS", "Precision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bytes a parameter that are kept, and the widths of what is computed and summed.

    gathers: weights live sharded in full width and each use gathers a copy in the compute width, as ``fully_shard``
    does; else stage 2 keeps them whole, as in ZeRO's paper.
    """

    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    compute_bytes: int
    reduce_bytes: int
    gathers: bool = False

    @property
    def bytes_per_param(self) -> int:
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes


def _precision(weight: int, gradient: int, optimizer: int, compute: int, reduce: int, gathers: bool) -> Precision:
    return Precision(
        weight_bytes=weight,
        gradient_bytes=gradient,
        optimizer_bytes=optimizer,
        compute_bytes=compute,
        reduce_bytes=reduce,
        gathers=gathers,
    )


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        # ZeRO, section 3.1: 2 weights + 2 gradients + 12 of optimizer (fp32 copy, Adam's two moments)
        "bf16-16": _precision(2, 2, 12, 2, 2, False),
        # Megatron-LM, and most since: gradients are summed in fp32
        "bf16-18": _precision(2, 4, 12, 2, 4, False),
        "fp32": _precision(4, 4, 8, 4, 4, False),
        # fully_shard as it comes, and with MixedPrecisionPolicy(param_dtype=bfloat16, reduce_dtype=float32)
        "fsdp-fp32": _precision(4, 4, 8, 4, 4, True),
        "fsdp-bf16": _precision(4, 4, 8, 2, 4, True),
    }
)
