"""How fast processes of this machine agree on a sum."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit.errors import UsageError
from labkit.hardware import machine
from labkit.launch import run
from labkit.measure import Measured, OnProgress
from labkit.units import KIB, MIB

__all__ = ["AllReducePoint", "measure_all_reduce"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReducePoint:
    """One size over ``ranks`` processes; time of the slowest rank, for each repeat."""

    ranks: int
    size_bytes: int
    time: Measured

    @property
    def bus_bandwidth(self) -> Measured:
        """Bytes each rank must send, 2(n-1)/n · size (a ring's, and the least possible), over the time."""
        share = 2 * (self.ranks - 1) / self.ranks
        return self.time.rate(share * self.size_bytes, "B/s", name=f"all-reduce, {self.ranks} ranks")


def _timed(sizes_bytes: Sequence[int], repeats: int, warmup: int) -> list[list[float]]:
    """On one rank: seconds of each all-reduce, by size and repeat."""
    import torch
    import torch.distributed as dist

    on_gpu = dist.get_backend() == "nccl"
    device = "cuda" if on_gpu else "cpu"
    seconds = []
    for size_bytes in sizes_bytes:
        data = torch.ones(size_bytes // 4, device=device)
        taken = []
        for index in range(warmup + repeats):
            dist.barrier()
            started = time.perf_counter()
            dist.all_reduce(data)
            if on_gpu:
                torch.cuda.synchronize()
            if index >= warmup:
                taken.append(time.perf_counter() - started)
        seconds.append(taken)
    return seconds


def measure_all_reduce(
    ranks: int = 2,
    sizes_bytes: Sequence[int] = (4 * KIB, 256 * KIB, 16 * MIB),
    *,
    repeats: int = 9,
    warmup: int = 2,
    backend: str = "auto",
    on_progress: OnProgress | None = None,
) -> list[AllReducePoint]:
    """All-reduce of float32 tensors over fresh processes, for each size (multiples of 4 bytes)."""
    if ranks < 2:
        raise UsageError(f"An all-reduce needs at least 2 ranks; got {ranks}.")
    if not sizes_bytes or any(size < 4 or size % 4 for size in sizes_bytes):
        raise UsageError(f"Sizes are positive multiples of 4 bytes (float32); got {list(sizes_bytes)}.")
    out = run(_timed, list(sizes_bytes), repeats, warmup, ranks=ranks, backend=backend, on_progress=on_progress)
    slowest = np.max(np.asarray(out.values), axis=0)  # (ranks, sizes, repeats) -> (sizes, repeats)
    where = machine().id
    return [
        AllReducePoint(
            ranks=ranks,
            size_bytes=size,
            time=Measured.from_samples(f"all-reduce of {size} B", taken, "s", machine=where, warmup=warmup),
        )
        for size, taken in zip(sizes_bytes, slowest, strict=True)
    ]
