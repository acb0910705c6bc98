"""What the fabric of this machine is: latency and bandwidth of each collective, fitted, and scored on unseen sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.errors import UsageError
from labkit.hardware import machine
from labkit.launch import run
from labkit.measure import Measured, OnProgress
from labkit.parallel.cost import fit_alpha_beta
from labkit.parallel.links import Link, Topology, ring_bytes_sent
from labkit.units import KIB

__all__ = ["COLLECTIVES", "FabricFit", "FabricPoint", "fit_fabric", "measure_fabric"]

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send")
SIZES_BYTES = tuple(4**power * 4 * KIB for power in range(7))  # 4 KiB to 16 MiB
VALUE_BYTES = 4  # float32


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricPoint:
    """One collective at one size over ``ranks`` processes; time of the slowest rank, for each repeat.

    size_bytes: the whole tensor (an all-gather's output, a reduce-scatter's input). A send is from rank 0 to rank 1.
    """

    op: str
    ranks: int
    size_bytes: int
    time: Measured

    @property
    def bytes_sent(self) -> float:
        """What a rank must send, by the ring's formulas."""
        return ring_bytes_sent(self.op, self.size_bytes, self.ranks)

    @property
    def bus_bandwidth(self) -> Measured:
        """Those bytes over the time."""
        return self.time.rate(self.bytes_sent, "B/s", name=f"{self.op}, {self.ranks} ranks")


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricFit:
    """time = α + β · bytes sent, fitted to some sizes of one collective. α is that of all its steps together."""

    op: str
    ranks: int
    alpha_s: float
    beta_s_per_byte: float
    fitted: tuple[FabricPoint, ...]
    held_out: tuple[FabricPoint, ...]

    def time_s(self, bytes_sent: float) -> float:
        return self.alpha_s + self.beta_s_per_byte * bytes_sent

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """What the bandwidth tends to as sizes grow; infinite where β is 0."""
        return 1 / self.beta_s_per_byte if self.beta_s_per_byte else float("inf")

    @property
    def error(self) -> float:
        """Median of |fit − measured| ÷ measured over the sizes that the fit has not seen."""
        off = [abs(self.time_s(point.bytes_sent) / point.time.value - 1) for point in self.held_out]
        return float(np.median(off))


def measure_fabric(
    ranks: int = 2,
    collectives: Sequence[str] = ("all_reduce",),
    sizes_bytes: Sequence[int] = SIZES_BYTES,
    *,
    over: Link | Topology | None = None,
    repeats: int = 7,
    warmup: int = 2,
    backend: str = "auto",
    deadline_s: float = 300.0,
    on_progress: OnProgress | None = None,
) -> list[FabricPoint]:
    """Each collective at each size (multiples of 4 bytes · ranks), over fresh processes, in turns.

    backend: as in `launch.run`; on nccl the tensors are the GPUs'. over: a throttled fabric instead of this machine's
    own, on gloo. UsageError: fewer than 2 ranks, an unknown collective, a size that does not divide.
    """
    if ranks < 2:
        raise UsageError(f"A fabric joins at least 2 ranks; got {ranks}.")
    if strange := [op for op in collectives if op not in COLLECTIVES]:
        raise UsageError(f"collectives are {', '.join(COLLECTIVES)}; got {', '.join(map(repr, strange))}.")
    least = VALUE_BYTES * ranks
    if not collectives or not sizes_bytes or any(size < least or size % least for size in sizes_bytes):
        came = f"got {list(collectives)} at {list(sizes_bytes)}"
        raise UsageError(f"A collective of {ranks} ranks needs sizes that are multiples of {least} bytes; {came}.")
    if repeats < 1 or warmup < 0:
        raise UsageError(f"repeats must be at least 1 and warmup at least 0; got {repeats} and {warmup}.")
    cases = [(op, size) for op in collectives for size in sizes_bytes]
    backend = backend if over is None else "gloo"
    launched = run(
        _timed,
        cases,
        repeats,
        warmup,
        over,
        ranks=ranks,
        backend=backend,
        deadline_s=deadline_s,
        on_progress=on_progress,
    )
    slowest = np.max(np.asarray(launched.values), axis=0)  # (ranks, repeats, cases) -> (repeats, cases)
    where = machine().id
    return [
        FabricPoint(
            op=op,
            ranks=ranks,
            size_bytes=size,
            time=Measured.from_samples(f"{op} of {size} B", taken, "s", machine=where, warmup=warmup),
        )
        for (op, size), taken in zip(cases, slowest.T, strict=True)
    ]


def fit_fabric(points: Sequence[FabricPoint], held_out_bytes: Sequence[int] | None = None) -> list[FabricFit]:
    """A fit for each collective and number of ranks, in order of appearance, to the sizes that are not held out.

    held_out_bytes: sizes to keep from the fit; every second one between the ends where none are named.
    UsageError: too few sizes.
    """
    fits = []
    for op, ranks in dict.fromkeys((point.op, point.ranks) for point in points):
        group = sorted((p for p in points if (p.op, p.ranks) == (op, ranks)), key=lambda point: point.size_bytes)
        unseen = held_out_bytes or [point.size_bytes for point in group[1:-1:2]]
        fitted = tuple(point for point in group if point.size_bytes not in unseen)
        held_out = tuple(point for point in group if point.size_bytes in unseen)
        if len(fitted) < 2 or not held_out:
            came = f"{op} has {[point.size_bytes for point in group]}, held out {list(unseen)}"
            raise UsageError(f"A fit needs two sizes, and one more to be scored on; {came}. Measure more sizes.")
        alpha_s, beta = fit_alpha_beta([p.bytes_sent for p in fitted], [p.time.value for p in fitted])
        fits.append(
            FabricFit(op=op, ranks=ranks, alpha_s=alpha_s, beta_s_per_byte=beta, fitted=fitted, held_out=held_out)
        )
    return fits


def _timed(
    cases: Sequence[tuple[str, int]], repeats: int, warmup: int, over: Link | Topology | None
) -> list[list[float]]:
    """On one rank: seconds by repeat and case. All cases take turns, so that a machine that drifts treats all alike."""
    from contextlib import nullcontext

    import torch
    import torch.distributed as dist

    on_gpu = dist.get_backend() == "nccl"
    if over is not None:
        from labkit.parallel.throttle import throttled
    with throttled(over) if over is not None else nullcontext() as group:
        calls = [_call(op, size // VALUE_BYTES, "cuda" if on_gpu else "cpu", group) for op, size in cases]
        seconds = []
        for _ in range(warmup + repeats):
            turn = []
            for call in calls:
                dist.barrier()
                started = time.perf_counter()
                call()
                if on_gpu:
                    torch.cuda.synchronize()
                turn.append(time.perf_counter() - started)
            seconds.append(turn)
    return seconds[warmup:]


def _call(op: str, num_values: int, device: str, group: Any) -> Callable[[], object]:
    """One collective over a tensor of so many values in all, ready to be called again and again."""
    import torch
    import torch.distributed as dist

    n, rank = dist.get_world_size(), dist.get_rank()
    whole = torch.ones(num_values, device=device)  # (values,)
    part = torch.ones(num_values // n, device=device)  # (values ÷ n,)
    if op == "send":
        if rank > 1:
            return lambda: None
        return lambda: dist.send(whole, 1, group=group) if rank == 0 else dist.recv(whole, 0, group=group)
    calls: dict[str, Callable[[], object]] = {
        "all_reduce": lambda: dist.all_reduce(whole, group=group),
        "all_gather": lambda: dist.all_gather_into_tensor(whole, part, group=group),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(part, whole, group=group),
        "broadcast": lambda: dist.broadcast(whole, 0, group=group),
        "all_to_all": lambda: dist.all_to_all_single(torch.empty_like(whole), whole, group=group),
    }
    return calls[op]
