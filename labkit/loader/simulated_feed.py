"""A loader's workers, its buffer, the storage's link and the device, batch by batch on a modelled clock.

`InputPipeline` gives the pace of a long run; this one also knows that a whole shard comes at once, and what is read
ahead meanwhile. It follows torch's DataLoader: batch j is worker j mod W's, and at most W · prefetch batches are asked
for and not yet taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import UsageError
from labkit.loader.pipeline import InputPipeline
from labkit.measure import Span, Timeline

__all__ = ["SimulatedFeed", "simulate_feed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedFeed:
    """When each batch was there and when the device was done with it, in seconds; spans of all that went on; the
    device waits where it has none."""

    ready_s: tuple[float, ...]
    done_s: tuple[float, ...]
    timeline: Timeline

    def step_s(self, warmup: int = 0) -> float:
        """Seconds of a step after ``warmup`` of them."""
        begin = self.done_s[warmup - 1] if warmup else 0.0
        return (self.done_s[-1] - begin) / (len(self.done_s) - warmup)


def simulate_feed(
    times: InputPipeline,
    num_steps: int,
    *,
    num_workers: int,
    prefetch: int = 2,
    batches_per_request: int = 1,
    prep_cores: int = 64,
) -> SimulatedFeed:
    """``num_steps`` steps. A worker fetches once for ``batches_per_request`` batches of its own, then prepares each
    as soon as one of ``prep_cores`` is free."""
    if min(num_steps, prefetch, batches_per_request, prep_cores) < 1 or num_workers < 0:
        came = f"{num_steps} steps, {num_workers} workers, prefetch {prefetch}, {batches_per_request} batches a request"
        raise UsageError(
            f"Steps, prefetch, cores and batches a request are at least 1, workers at least 0; got {came}."
        )
    lanes = max(1, num_workers)
    free, cores, link_free, device_free = [0.0] * lanes, [0.0] * prep_cores, 0.0, 0.0
    ready: list[float] = []
    done: list[float] = []
    taken: list[float] = []
    spans: list[Span] = []
    for batch in range(num_steps):
        worker, own = batch % lanes, batch // lanes
        lane = f"worker {worker}" if num_workers else "device"
        outstanding = lanes * prefetch
        asked = device_free if not num_workers else taken[batch - outstanding] if batch >= outstanding else 0.0
        now = max(free[worker], asked)
        if own % batches_per_request == 0:
            latency_s = (times.fetch_s - times.link_s) * batches_per_request
            link_free = max(link_free, now + latency_s) + times.link_s * batches_per_request
            spans.append(Span(lane=lane, name="fetch", start_s=now, end_s=link_free))
            now = link_free
        core = min(range(prep_cores), key=cores.__getitem__)
        now = max(now, cores[core])
        free[worker] = cores[core] = now + times.prep_s
        spans.append(Span(lane=lane, name="prep", start_s=now, end_s=free[worker]))
        ready.append(free[worker])
        taken.append(max(device_free, ready[-1]))
        device_free = taken[-1] + times.ingest_s
        spans.append(Span(lane="device", name="train", start_s=taken[-1], end_s=device_free))
        done.append(device_free)
    return SimulatedFeed(
        ready_s=tuple(ready),
        done_s=tuple(done),
        timeline=Timeline(spans=tuple(sorted(spans, key=lambda span: (span.lane, span.start_s)))),
    )
