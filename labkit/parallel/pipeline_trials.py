"""Measure pipelines: schedules in turns on fresh ranks, and one batch as a pipeline and tensor-parallel over links."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import UsageError
from labkit.launch import run
from labkit.measure import OnProgress, Timeline
from labkit.models import TransformerConfig
from labkit.parallel.links import Link
from labkit.parallel.schedule_timeline import bubble
from labkit.parallel.schedules import Schedule

__all__ = ["LinkTrial", "ScheduleTrial", "measure_links", "measure_schedules"]

DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTrial:
    """One schedule: a timeline of all stages a round; by stage, what autograd kept at most and what was sent a step."""

    schedule: Schedule
    timelines: tuple[Timeline, ...]
    peak_activation_bytes: tuple[int, ...]
    sent_bytes: tuple[int, ...]

    @property
    def bubbles(self) -> tuple[float, ...]:
        """Idle ÷ ideal time, a round each."""
        return tuple(bubble(timeline) for timeline in self.timelines)

    @property
    def step_s(self) -> tuple[float, ...]:
        """From the first action of any stage to the last, a round each."""
        return tuple(timeline.duration_s for timeline in self.timelines)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTrial:
    """One way of splitting over one link (None: this machine's own loopback): seconds a step, by round, of the slowest
    rank; bytes that a rank sends in a step, the most of any."""

    split: str
    link: Link | None
    step_s: tuple[float, ...]
    sent_bytes: float


def measure_schedules(
    config: TransformerConfig,
    schedules: Sequence[Schedule],
    *,
    microbatch_size: int = 1,
    seq_len: int = 64,
    rounds: int = 5,
    on_progress: OnProgress | None = None,
) -> tuple[ScheduleTrial, ...]:
    """Every schedule once a round, in turns, on a rank a stage; a first round warms up and counts bytes.

    All schedules need the same number of stages. The micro-batch keeps its size, so the batch grows with their number.
    """
    if len({schedule.num_stages for schedule in schedules}) != 1 or rounds < 1:
        came = [schedule.num_stages for schedule in schedules]
        raise UsageError(
            f"Schedules that take turns need the same stages, and a round; got {came} and {rounds} rounds."
        )
    stages = schedules[0].num_stages
    options: dict[str, Any] = {"ranks": stages, "backend": "gloo", "deadline_s": DEADLINE_S, "on_progress": on_progress}
    ranks = run(_schedules_on_a_rank, config, tuple(schedules), microbatch_size, seq_len, rounds, **options).values
    return tuple(
        ScheduleTrial(
            schedule=schedule,
            timelines=tuple(
                Timeline.merge((rank[index]["timelines"][r] for rank in ranks), title=schedule.name)
                for r in range(rounds)
            ),
            peak_activation_bytes=tuple(rank[index]["peak"] for rank in ranks),
            sent_bytes=tuple(rank[index]["sent"] for rank in ranks),
        )
        for index, schedule in enumerate(schedules)
    )


def _schedules_on_a_rank(
    config: TransformerConfig, schedules: tuple[Schedule, ...], microbatch_size: int, seq_len: int, rounds: int
) -> list[dict[str, Any]]:
    import torch.distributed as dist

    from labkit.parallel.pipeline import Pipeline
    from labkit.parallel.traffic import count_traffic

    model, tokens, targets = _same_everywhere(
        config, max(s.num_microbatches for s in schedules) * microbatch_size, seq_len
    )
    pipelines: list[tuple[Pipeline, int]] = []
    found: list[dict[str, Any]] = []
    for schedule in schedules:
        batch_size = schedule.num_microbatches * microbatch_size
        pipeline = Pipeline(model, schedule, batch_size=batch_size, seq_len=seq_len)
        with count_traffic() as traffic:
            step = pipeline.step(tokens[:batch_size], targets[:batch_size], count_activations=True)
        found.append({"timelines": [], "peak": step.peak_activation_bytes, "sent": traffic.payload_bytes("send")})
        pipelines.append((pipeline, batch_size))
    for number in range(-1, rounds):  # the first is thrown away
        for index in range(len(schedules)) if number % 2 else reversed(range(len(schedules))):
            pipeline, batch_size = pipelines[index]
            dist.barrier()
            step = pipeline.step(tokens[:batch_size], targets[:batch_size])
            if number >= 0:
                found[index]["timelines"].append(step.timeline)
    return found


def measure_links(
    config: TransformerConfig,
    schedule: Schedule,
    links: Sequence[Link | None],
    *,
    seq_len: int = 64,
    rounds: int = 5,
    on_progress: OnProgress | None = None,
) -> tuple[LinkTrial, ...]:
    """The same batch, one sequence a micro-batch, as a pipeline and tensor-parallel over each link, all in turns."""
    if not links or rounds < 1:
        raise UsageError(f"measure_links needs at least one link and one round; got {len(links)} and {rounds}.")
    stages = schedule.num_stages
    options: dict[str, Any] = {"ranks": stages, "backend": "gloo", "deadline_s": DEADLINE_S, "on_progress": on_progress}
    ranks = run(_links_on_a_rank, config, schedule, tuple(links), seq_len, rounds, **options).values
    return tuple(
        LinkTrial(
            split=split,
            link=links[index],
            step_s=tuple(max(times) for times in zip(*(rank[split, index][0] for rank in ranks), strict=True)),
            sent_bytes=max(rank[split, index][1] for rank in ranks),
        )
        for split, index in ranks[0]
    )


def _links_on_a_rank(
    config: TransformerConfig, schedule: Schedule, links: tuple[Link | None, ...], seq_len: int, rounds: int
) -> dict[tuple[str, int], tuple[list[float], float]]:
    from contextlib import ExitStack

    import torch
    import torch.distributed as dist

    from labkit.parallel.pipeline import Pipeline, next_token_loss
    from labkit.parallel.tensor import TensorParallel
    from labkit.parallel.throttle import throttled
    from labkit.parallel.traffic import count_traffic

    m = schedule.num_microbatches
    model, tokens, targets = _same_everywhere(config, m, seq_len)

    def tensor_step(split: TensorParallel) -> None:
        split.zero_grad()
        for x, y in zip(tokens.chunk(m), targets.chunk(m), strict=True):
            torch.autograd.backward(next_token_loss(split(x), y) / m)

    with ExitStack() as open_groups:
        steps: dict[tuple[str, int], Any] = {}
        for index, link in enumerate(links):
            group = open_groups.enter_context(throttled(link)) if link else None
            pipeline = Pipeline(model, schedule, batch_size=m, seq_len=seq_len, group=group)
            steps["pipeline", index] = lambda pipeline=pipeline: pipeline.step(tokens, targets)
            split = TensorParallel(model, group)
            steps["tensor", index] = lambda split=split: tensor_step(split)
        found: dict[tuple[str, int], tuple[list[float], float]] = {}
        for key, step in steps.items():
            step()  # the first also agrees on shapes
            with count_traffic() as traffic:
                step()
            found[key] = [], traffic.bytes_sent
        for _ in range(rounds):
            for key, step in steps.items():
                dist.barrier()
                started = time.perf_counter()
                step()
                found[key][0].append(time.perf_counter() - started)
        return found


def _same_everywhere(config: TransformerConfig, batch_size: int, seq_len: int) -> tuple[Any, Any, Any]:
    """One model and one text of random tokens, alike on every rank."""
    import torch

    from labkit.models import Transformer

    torch.manual_seed(0)
    model = Transformer(config)
    text = torch.randint(0, config.vocab_size, (batch_size, seq_len + 1))
    return model, text[:, :-1], text[:, 1:]
