"""Where a step's time goes, by operator: torch.profiler, summed up as data."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import UsageError
from labkit.hardware import machine as this_machine
from labkit.measure.timeline import Span, Timeline
from labkit.measure.tracer import tracer

if TYPE_CHECKING:
    import pandas

__all__ = ["Profile", "ProfileRow", "profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """One operator over all profiled steps. self_s: without what it called; flops: 0 where torch knows no formula.

    On "cuda" the seconds are those of the kernels that the operator launched, not of launching them.
    """

    name: str
    calls: int
    self_s: float
    total_s: float
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Operators by their own time, largest first; wall_s: all profiled steps together, by the wall clock."""

    rows: tuple[ProfileRow, ...]
    wall_s: float
    steps: int
    device: str
    spans: tuple[Span, ...]

    @property
    def self_s(self) -> float:
        """Time inside operators: the rest of wall_s is Python, the profiler and waiting, unless several threads or
        streams worked at once."""
        return sum(row.self_s for row in self.rows)

    def table(self) -> pandas.DataFrame:
        """A row an operator: name, calls, self_s, total_s, flops, share (of the operators' time)."""
        import pandas

        rows = [{name: getattr(row, name) for name in ProfileRow.__slots__} for row in self.rows]
        frame = pandas.DataFrame(rows, columns=list(ProfileRow.__slots__))
        return frame.assign(share=frame["self_s"] / self.self_s if self.self_s else 0.0)

    def timeline(self) -> Timeline:
        """Top-level operators (and `record_function` blocks) as spans, a lane a thread or device stream."""
        return Timeline(spans=self.spans, title="operators")


def profile(fn: Callable[[], object], *, steps: int = 3, warmup: int = 1, device: str = "cpu") -> Profile:
    """Run ``fn`` warmup + steps times and say where the time of the latter went. device: "cpu" or "cuda"."""
    if steps < 1 or warmup < 0:
        raise UsageError(f"steps must be at least 1 and warmup at least 0; got {steps} and {warmup}.")
    if device not in ("cpu", "cuda"):
        raise UsageError(
            f'device must be "cpu" or "cuda"; got {device!r}. labkit.hardware.machine().device says which.'
        )
    on_gpu = device == "cuda"
    if on_gpu and this_machine().device != "cuda":
        raise UsageError('device "cuda" needs a GPU, and this machine has none. Use device="cpu".')
    import torch

    wait: Callable[[], object] = torch.cuda.synchronize if on_gpu else lambda: None
    for _ in range(warmup):
        fn()
    with tracer(on_gpu=on_gpu, with_flops=True) as trace:
        wait()  # what the warm-up queued must not be charged to the steps
        started = time.perf_counter()
        for _ in range(steps):
            fn()
        wait()
        wall_s = time.perf_counter() - started
    events = trace.events()
    return Profile(rows=_rows(events, on_gpu), wall_s=wall_s, steps=steps, device=device, spans=_spans(events))


def _rows(events: Any, on_gpu: bool) -> tuple[ProfileRow, ...]:
    """torch lists a kernel's time twice, under its operator and as a row of its own: here the operators alone."""
    averages = (event for event in events.key_averages() if _on_host(event))
    return tuple(sorted((_row(event, on_gpu) for event in averages), key=lambda row: -row.self_s))


def _on_host(event: Any) -> bool:
    return bool(event.device_type.name == "CPU")


def _row(event: Any, on_gpu: bool) -> ProfileRow:
    """torch counts in microseconds; on a GPU the operator's time is its kernels'."""
    mine = event.self_device_time_total if on_gpu else event.self_cpu_time_total
    whole = event.device_time_total if on_gpu else event.cpu_time_total
    return ProfileRow(
        name=str(event.key), calls=int(event.count), self_s=mine / 1e6, total_s=whole / 1e6, flops=int(event.flops or 0)
    )


def _spans(events: Any) -> tuple[Span, ...]:
    return tuple(
        Span(
            lane=_lane(event),
            name=str(event.name),
            start_s=event.time_range.start / 1e6,
            end_s=event.time_range.end / 1e6,
            category=str(event.name).partition("::")[0],
        )
        for event in events
        if event.cpu_parent is None and event.time_range.end >= event.time_range.start
        # A block's name is put on the device too, from its first kernel to its last; that is no work of the device.
        if _on_host(event) or not event.is_user_annotation
    )


def _lane(event: Any) -> str:
    if _on_host(event):
        return f"thread {event.thread}"
    return f"GPU {event.device_index} stream {event.device_resource_id}"
