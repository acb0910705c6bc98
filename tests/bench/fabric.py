"""What a throttled fabric promises: the bandwidth that one measures on it is the one set, and overlap survives."""

from __future__ import annotations

import numpy as np

from labkit import launch, measure
from labkit.parallel.cost import fit_alpha_beta
from labkit.parallel.fabric import measure_fabric
from labkit.parallel.links import Link

LASTS_S = (0.02, 0.04, 0.08, 0.16, 0.32)  # an all-reduce of two ranks: long enough to tell a bandwidth from a latency
SET = (Link("slow", 20e6, 1e-3), Link("middle", 50e6, 1e-3), Link("fast", 150e6, 0.0))


def bandwidth_off() -> measure.Measured:
    """|recovered ÷ set − 1| of a link's bandwidth: the largest over links, ranks and the two collectives of DDP and
    `fully_shard`; low to high is all of them."""
    off = []
    for ranks in (2, 4):
        for link in SET:
            sizes = [round(link.bandwidth_bytes_per_s * lasts_s / 48) * 48 for lasts_s in LASTS_S]
            points = measure_fabric(ranks, ("all_reduce", "all_gather"), sizes, over=link, repeats=5)
            for op in ("all_reduce", "all_gather"):
                own = [point for point in points if point.op == op]
                alpha_s, beta_s = fit_alpha_beta([p.bytes_sent for p in own], [p.time.value for p in own])
                assert alpha_s >= 0
                off.append(abs(1 / beta_s / link.bandwidth_bytes_per_s - 1))
    return measure.Measured(
        name="bandwidth recovered ÷ set", value=max(off), unit="off", low=min(off), high=max(off), n=len(off)
    )


def overlap() -> measure.Measured:
    """An all-reduce beside as much computing ÷ one after the other, on the slowest of two ranks, in turns."""
    together, alternately = (np.asarray(seconds) for seconds in launch.run(_overlap, ranks=2, backend="gloo").values[0])
    return measure.Measured.from_samples("overlapped ÷ one after the other", together / alternately, "×")


def _overlap(rounds: int = 9, warmup: int = 2) -> tuple[list[float], list[float]]:
    import time

    import torch
    import torch.distributed as dist

    from labkit.parallel.throttle import throttled

    matrix, data = torch.randn(400, 400), torch.ones(1_000_000)

    def compute() -> None:
        until = time.thread_time() + 0.2  # of this thread's processor time: as much work, whatever else runs
        while time.thread_time() < until:
            torch.mm(matrix, matrix)

    def taken(overlapped: bool) -> float:
        dist.barrier()
        started = time.perf_counter()
        work = dist.all_reduce(data, group=group, async_op=True)
        if not overlapped:
            work.wait()
        compute()
        work.wait()
        slowest = torch.tensor(time.perf_counter() - started)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        return float(slowest)

    with throttled(Link("own", 20e6)) as group:  # 4 MB take 0.2 s
        seconds = [(taken(True), taken(False)) for _ in range(warmup + rounds)][warmup:]
    return [both[0] for both in seconds], [both[1] for both in seconds]
