"""One call that takes a training job apart: a stopwatch around each part of the step, in turns with undisturbed steps.

On a GPU the device is waited for at the end of each part, else a part would be charged with launching its work only.
Where ranks talk, torch's profiler runs beside the stopwatch and says which part of a backward was spent in waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from labkit.errors import UsageError
from labkit.hardware import machine as this_machine
from labkit.measure.collective_spans import MARK, exposed_collectives
from labkit.measure.figures import Measured, Quoted
from labkit.measure.flops import count_flops
from labkit.measure.progress import OnProgress
from labkit.measure.timeline import Recorder, Span
from labkit.measure.training_job import PARTS, TrainingJob
from labkit.measure.training_profile import TrainingProfile

__all__ = ["profile_training"]

Clock = Callable[[], float]


def profile_training(
    job: TrainingJob,
    *,
    name: str = "training job",
    steps: int = 12,
    warmup: int = 2,
    peak: Measured | Quoted | None = None,
    clock: Clock = time.perf_counter,
    on_progress: OnProgress | None = None,
) -> TrainingProfile:
    """Train for warmup + 1 + 2·steps steps and say where the time of a step goes.

    The one counts FLOPs. Of the others every second one has the stopwatch in it (A B, B A, …). peak: FLOP/s that what
    was allocated can reach, for `TrainingProfile.utilisation`. On ranks of a group each calls this, in step, and gets
    its own profile; a collective's time includes waiting for a rank that comes late.
    """
    if steps < 1 or warmup < 0:
        raise UsageError(f"steps must be at least 1 and warmup at least 0; got {steps} and {warmup}.")
    if peak is not None and not (peak.unit == "FLOP/s" and peak.value > 0):
        raise UsageError(f"peak must be a figure above 0 in FLOP/s; got {peak.value} {peak.unit or 'of no unit'}.")
    import torch

    rank, world_size = _place()
    watch = _Stopwatch(job, f"rank {rank}", clock, traced=world_size > 1)
    for _ in range(warmup):
        job.step()
    flops = count_flops(job.step)
    if world_size > 1:
        watch.step()  # a tracer's first start takes long
        watch.steps.clear()
    plain_s, cpu_s = [], []
    for index in range(steps):
        if on_progress:
            on_progress(index / steps, f"{name}: steps {2 * index + 1} and {2 * index + 2} of {2 * steps}")
        for with_watch in (False, True) if index % 2 == 0 else (True, False):
            if with_watch:
                watch.step()
                continue
            watch.synchronize()
            started, on_cpu = clock(), time.process_time()
            job.step()
            watch.synchronize()
            plain_s.append(clock() - started)
            cpu_s.append(time.process_time() - on_cpu)
    if on_progress:
        on_progress(1.0, f"{name}: {2 * steps} steps")
    parts_s = {part: tuple(_seconds(spans, part) for spans in watch.steps) for part in PARTS}
    return TrainingProfile(
        name=name,
        parts_s=parts_s,
        step_s=tuple(sum(times) for times in zip(*parts_s.values(), strict=True)),
        plain_s=tuple(plain_s),
        cpu_s=tuple(cpu_s),
        flops=flops,
        peak=peak,
        device=job.device,
        num_threads=torch.get_num_threads(),
        machine=this_machine().id,
        rank=rank,
        world_size=world_size,
        spans=tuple(span for spans in watch.steps for span in spans),
    )


class _Stopwatch:
    """Takes steps and keeps the spans of each, without a gap: what no part claims is "other"."""

    def __init__(self, job: TrainingJob, lane: str, clock: Clock, *, traced: bool) -> None:
        import torch

        self.job, self.lane, self.clock, self.traced = job, lane, clock, traced
        self.synchronize: Callable[[], object] = torch.cuda.synchronize if job.device == "cuda" else lambda: None
        self.steps: list[list[Span]] = []

    def step(self) -> None:
        from torch.profiler import ProfilerActivity, profile, record_function

        on_gpu = [ProfilerActivity.CUDA] if self.job.device == "cuda" else []
        trace: Any = profile(activities=[ProfilerActivity.CPU, *on_gpu]) if self.traced else None
        recorder = Recorder(self.clock)

        @contextmanager
        def part(name: str) -> Iterator[None]:
            with record_function(MARK + name) if self.traced else nullcontext(), recorder.span(self.lane, name):
                yield
                self.synchronize()

        with trace or nullcontext():
            self.synchronize()
            started = self.clock()
            self.job.step(part)
            self.synchronize()
            ended = self.clock()
        exposed = exposed_collectives(trace.events()) if trace else {}
        spans = [piece for span in recorder.timeline().spans for piece in _split(span, exposed.get(span.name, []))]
        self.steps.append(list(_filled(spans, self.lane, started, ended)))


def _split(span: Span, waits: list[tuple[float, float]]) -> Iterator[Span]:
    """A part's span, cut where it waits for a collective."""
    at = span.start_s
    for start, end in waits:
        first, last = (min(span.start_s + offset, span.end_s) for offset in (start, end))
        yield _named(span.lane, span.name, at, max(at, first))
        yield _named(span.lane, "collective", max(at, first), max(at, last))
        at = max(at, last)
    yield _named(span.lane, span.name, at, span.end_s)


def _filled(spans: list[Span], lane: str, started: float, ended: float) -> Iterator[Span]:
    """The spans in order, and "other" wherever the step has none."""
    at = started
    for span in spans:
        if span.start_s > at:
            yield _named(lane, "other", at, span.start_s)
        yield span
        at = span.end_s
    if ended > at:
        yield _named(lane, "other", at, ended)


def _named(lane: str, name: str, start_s: float, end_s: float) -> Span:
    return Span(lane=lane, name=name, start_s=start_s, end_s=end_s)


def _seconds(spans: list[Span], part: str) -> float:
    return sum(span.duration_s for span in spans if span.name == part)


def _place() -> tuple[int, int]:
    """Rank and world size of this process."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()
