"""A stopwatch around the parts of a training step: what each took, without a gap, and what of it was waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from labkit.measure.collective_spans import MARK, exposed_collectives
from labkit.measure.timeline import Recorder, Span
from labkit.measure.tracer import tracer
from labkit.measure.training_job import TrainingJob

__all__ = ["Stopwatch"]


class Stopwatch:
    """Takes steps of a job on one lane; ``steps`` holds the spans of each that was watched, "other" where no part is.

    On a GPU the device is waited for at the end of each part, else a part would be charged with launching its work.
    """

    def __init__(self, job: TrainingJob, lane: str, clock: Callable[[], float]) -> None:
        import torch

        self.job, self.lane, self.clock, self.traced = job, lane, clock, False
        self.synchronize: Callable[[], object] = torch.cuda.synchronize if job.device == "cuda" else lambda: None
        self.steps: list[list[Span]] = []

    def plain_step(self) -> tuple[float, float]:
        """A step that is not watched: its seconds, and the processor time of the whole process meanwhile."""
        self.synchronize()
        started, on_cpu = self.clock(), time.process_time()
        self.job.step()
        self.synchronize()
        return self.clock() - started, time.process_time() - on_cpu

    def step(self) -> None:
        """A watched step."""
        from torch.profiler import record_function

        number, recorder = len(self.steps), Recorder(self.clock)

        @contextmanager
        def part(name: str) -> Iterator[None]:
            block = record_function(f"{MARK}{number} {name}") if self.traced else nullcontext()
            with block, recorder.span(self.lane, name, step=number):
                yield
                self.synchronize()

        self.synchronize()
        started = self.clock()
        self.job.step(part)
        self.synchronize()
        ended = self.clock()
        self.steps.append(list(_filled(recorder.timeline().spans, self.lane, number, started, ended)))

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """torch's profiler beside the watched steps; afterwards their waits for collectives are cut out as such.

        One trace for all of them: ranks take unequally long to end one, and the next step would wait for the slowest.
        """
        import torch.distributed as dist

        trace = tracer(on_gpu=self.job.device == "cuda")
        self.traced = True
        with trace:
            dist.barrier()
            yield
            self.synchronize()
        self.traced = False
        exposed = exposed_collectives(trace.events())
        for number, spans in enumerate(self.steps):
            cut = (_split(span, exposed.get(f"{number} {span.name}", [])) for span in spans)
            self.steps[number] = [piece for pieces in cut for piece in pieces]


def _split(span: Span, waits: list[tuple[float, float]]) -> Iterator[Span]:
    """A part's span, cut where it waits for a collective; waits in seconds from its start."""
    at = span.start_s
    for start, end in waits:
        first, last = (max(at, min(span.start_s + offset, span.end_s)) for offset in (start, end))
        yield _named(span.lane, span.name, span.args["step"], at, first)
        yield _named(span.lane, "collective", span.args["step"], first, last)
        at = last
    yield _named(span.lane, span.name, span.args["step"], at, span.end_s)


def _filled(spans: tuple[Span, ...], lane: str, step: int, started: float, ended: float) -> Iterator[Span]:
    """The spans in order, and "other" wherever the step has none."""
    at = started
    for span in spans:
        if span.start_s > at:
            yield _named(lane, "other", step, at, span.start_s)
        yield span
        at = span.end_s
    if ended > at:
        yield _named(lane, "other", step, at, ended)


def _named(lane: str, name: str, step: int, start_s: float, end_s: float) -> Span:
    return Span(lane=lane, name=name, start_s=start_s, end_s=end_s, category=name, args={"step": step})
