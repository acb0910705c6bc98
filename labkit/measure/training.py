"""One call that takes a training job apart: a stopwatch around each part of the step, in turns with undisturbed steps.

Where ranks talk, torch's profiler runs beside the stopwatch and says which part of a backward was spent in waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from labkit.errors import UsageError
from labkit.hardware import machine as this_machine
from labkit.measure.figures import Measured, Quoted
from labkit.measure.flops import count_flops
from labkit.measure.progress import OnProgress
from labkit.measure.stopwatch import Stopwatch
from labkit.measure.timeline import Span
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

    The one counts FLOPs. Of the others every second one has the stopwatch in it (A B, B A, …; on several ranks the
    watched ones, and one more, follow the others, for they share one trace). peak: FLOP/s that what
    was allocated can reach, for `TrainingProfile.utilisation`. On ranks of a group each calls this, in step, and gets
    its own profile; a collective's time includes waiting for a rank that comes late.
    """
    if steps < 1 or warmup < 0:
        raise UsageError(f"steps must be at least 1 and warmup at least 0; got {steps} and {warmup}.")
    if peak is not None and not (peak.unit == "FLOP/s" and peak.value > 0):
        raise UsageError(f"peak must be a figure above 0 in FLOP/s; got {peak.value} {peak.unit or 'of no unit'}.")
    import torch

    rank, world_size = _place()
    watch = Stopwatch(job, f"rank {rank}", clock)
    for _ in range(warmup):
        job.step()
    flops = count_flops(job.step)
    tell, plain = on_progress or (lambda fraction, message: None), []
    if world_size > 1:
        for index in range(steps):
            tell(index / steps / 2, f"{name}: step {index + 1} of {2 * steps}")
            plain.append(watch.plain_step())
        with watch.tracing():
            for index in range(steps + 1):  # the first of a trace takes longer
                tell((steps + index) / steps / 2, f"{name}: step {steps + index + 1} of {2 * steps}")
                watch.step()
        del watch.steps[0]
    else:
        for index in range(steps):
            tell(index / steps, f"{name}: steps {2 * index + 1} and {2 * index + 2} of {2 * steps}")
            for with_watch in (False, True) if index % 2 == 0 else (True, False):
                if with_watch:
                    watch.step()
                else:
                    plain.append(watch.plain_step())
    tell(1.0, f"{name}: {2 * steps} steps")
    plain_s, cpu_s = zip(*plain, strict=True)
    parts_s = {part: tuple(_seconds(spans, part) for spans in watch.steps) for part in PARTS}
    return TrainingProfile(
        name=name,
        parts_s=parts_s,
        step_s=tuple(sum(times) for times in zip(*parts_s.values(), strict=True)),
        plain_s=plain_s,
        cpu_s=cpu_s,
        flops=flops,
        peak=peak,
        device=job.device,
        num_threads=torch.get_num_threads(),
        machine=this_machine().id,
        rank=rank,
        world_size=world_size,
        spans=tuple(span for spans in watch.steps for span in spans),
    )


def _seconds(spans: list[Span], part: str) -> float:
    return sum(span.duration_s for span in spans if span.name == part)


def _place() -> tuple[int, int]:
    """Rank and world size of this process."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()
