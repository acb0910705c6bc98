"""Where a data-parallel step's time goes: what the core does, and what is on the link meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from labkit.launch import run
from labkit.measure import OnProgress, Span, Timeline
from labkit.models import TransformerConfig
from labkit.parallel.trials import Groups, Trial, prepare_step

__all__ = ["trace_steps"]


def trace_steps(
    config: TransformerConfig, trials: Mapping[str, Trial], *, seq_len: int = 64, on_progress: OnProgress | None = None
) -> Timeline:
    """One step of each trial on its rank 0, two lanes each, all from time 0: what the core does and what the link does.

    A bucket is on the link from when it is full and the one before has come until its own sum has come.
    """
    most = max(trial.num_ranks for trial in trials.values())
    spans = run(_trace, config, dict(trials), seq_len, ranks=most, backend="gloo", on_progress=on_progress).values[0]
    return Timeline(spans=tuple(spans))


def _trace(config: TransformerConfig, trials: Mapping[str, Trial], seq_len: int) -> list[Span]:
    import torch.distributed as dist

    spans = []
    with ExitStack() as stack:
        groups: Groups = {}
        for name, trial in trials.items():
            events: list[tuple[int, float, float]] = []
            step = prepare_step(
                stack, groups, config, trial, seq_len, lambda *event, events=events: events.append(event)
            )
            for _ in range(3):  # the first two warm up
                events.clear()
                dist.barrier()
                clock = step() if step is not None else ()
            if clock:
                spans += _spans(name, clock, events)
        dist.barrier()
    return spans


def _spans(name: str, clock: Sequence[float], events: Sequence[tuple[int, float, float]]) -> list[Span]:
    start, forward, backward, end = (at - clock[0] for at in clock)
    computed = min(backward, max((begin - clock[0] for _, begin, _ in events), default=backward))  # the last is full
    parts = [("forward", start, forward), ("backward", forward, computed), ("wait", computed, backward)]
    core, link = f"{name}: core", f"{name}: link"
    spans = [Span(lane=core, name=part, start_s=a, end_s=b) for part, a, b in (*parts, ("update", backward, end))]
    free = 0.0
    for index, begin, done in events:  # in order: a bucket travels when it is full and the one before has come
        category = "bucket" if index % 2 == 0 else "next bucket"
        travels = max(free, begin - clock[0])
        free = max(travels, done - clock[0])
        spans.append(Span(lane=link, name=str(index), category=category, start_s=travels, end_s=free))
    return spans
