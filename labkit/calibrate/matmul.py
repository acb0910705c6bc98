"""How fast this machine multiplies matrices, from shapes that wait for memory to shapes that wait for arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.calibrate.roofline import matmul_bytes, matmul_flops
from labkit.calibrate.threads import allowed_threads
from labkit.errors import UsageError
from labkit.hardware import last_level_cache_bytes, machine
from labkit.measure import Measured, OnProgress, repeat

__all__ = ["MatmulPoint", "measure_matmul"]

SPARE_MEMORY_SHARE = 8  # weights may take an eighth of the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulPoint:
    """(m, k) @ (k, n) in one dtype: its work, its traffic, and the time it took."""

    m: int
    k: int
    n: int
    dtype: str
    bytes_per_element: int
    time: Measured

    @property
    def flops(self) -> int:
        return matmul_flops(self.m, self.k, self.n)

    @property
    def num_bytes(self) -> float:
        return matmul_bytes(self.m, self.k, self.n, self.bytes_per_element)

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.num_bytes

    @property
    def flops_per_s(self) -> Measured:
        return self.time.rate(self.flops, "FLOP/s", name=f"{self.dtype} matmul")


@allowed_threads()
def measure_matmul(
    dtype: str,
    shapes: Sequence[tuple[int, int, int]],
    *,
    repeats: int = 7,
    warmup: int = 2,
    device: str | None = None,
    on_progress: OnProgress | None = None,
) -> list[MatmulPoint]:
    """Time (m, k) @ (k, n) for each shape. dtype: torch's name, for example "bfloat16".

    The second operand changes from call to call among enough copies to overflow the last-level cache, as a model's
    layers do: a weight that stays in the cache would show the cache's bandwidth and not the memory's.
    """
    import torch

    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise UsageError(f'dtype must be one of torch\'s floating-point names, for example "bfloat16"; got {dtype!r}.')
    where = device or machine().device
    points = []
    copies: dict[tuple[int, int], list[torch.Tensor]] = {}  # by (k, n): shapes that differ in m share them
    for index, (m, k, n) in enumerate(shapes):
        if min(m, k, n) < 1:
            raise UsageError(f"Sizes of a matmul are at least 1; got {(m, k, n)}.")
        if on_progress:
            on_progress(index / len(shapes), f"{dtype} matmul {m} × {k} × {n}")
        if (k, n) not in copies:
            copies.clear()
            first = torch.randn(k, n, device=where).to(kind)
            copies[k, n] = [first, *(first.clone() for _ in range(_num_copies(k * n * kind.itemsize) - 1))]
        left, weights = torch.randn(m, k, device=where).to(kind), itertools.cycle(copies[k, n])
        time = repeat(
            lambda left=left, weights=weights: left @ next(weights),  # type: ignore[misc]
            name=f"{dtype} {m}×{k}×{n}",
            repeats=repeats,
            warmup=warmup,
        )
        points.append(MatmulPoint(m=m, k=k, n=n, dtype=dtype, bytes_per_element=kind.itemsize, time=time))
    return points


def _num_copies(weight_bytes: int) -> int:
    """So many that by the time the first comes round again the cache has forgotten it, within the memory there is."""
    wanted = 1 + math.ceil(last_level_cache_bytes() / weight_bytes)
    return max(1, min(wanted, machine().memory_bytes // SPARE_MEMORY_SHARE // weight_bytes, 64))
