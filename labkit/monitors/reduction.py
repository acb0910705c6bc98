"""Sums of many ranks' gradients in few bits: what overflows, and what is too small to be added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["ReducedSum", "sum_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducedSum:
    """num_non_finite: elements of the sum that overflowed. error: relative, of the others, ‖sum − exact‖ ÷ ‖exact‖."""

    total: Tensor
    num_non_finite: int
    error: float


def sum_in(dtype: torch.dtype, tensors: Sequence[Tensor], *, scale: float = 1.0) -> ReducedSum:
    """Add up the tensors one after the other in ``dtype``, each multiplied by ``scale`` before (the loss scale).

    The order is a ring's: each rank adds its own to what came. Every partial sum is rounded to ``dtype``.
    """
    import torch

    if not tensors or not scale > 0:
        raise UsageError(f"A sum needs at least one tensor and a scale above 0; got {len(tensors)} and {scale}.")
    exact, total = tensors[0].double() * scale, (tensors[0] * scale).to(dtype)
    for tensor in tensors[1:]:
        exact += tensor.double() * scale
        total += (tensor * scale).to(dtype)
    finite = total.isfinite()
    left = torch.where(finite, exact, 0.0)
    off = torch.where(finite, total.double() - exact, 0.0)
    error = float(off.norm() / left.norm()) if float(left.norm()) else 0.0
    return ReducedSum(total=total, num_non_finite=int((~finite).sum()), error=error)
