"""Monitors put to the test: thresholds from some seeds, recall, delay and false alarms from others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labkit.errors import UsageError
from labkit.measure import OnProgress
from labkit.monitors.divergence import DivergenceMonitor
from labkit.monitors.drill import DrillConfig, DrillRun, run_drill
from labkit.monitors.faults import KINDS, draw_fault
from labkit.monitors.scoring import Outcome, Score
from labkit.monitors.straggler import StragglerMonitor
from labkit.monitors.thresholds import Thresholds, fix_threshold

__all__ = ["calibrate_monitors", "judge", "try_monitors"]


def calibrate_monitors(
    seeds: Sequence[int], *, config: DrillConfig | None = None, on_progress: OnProgress | None = None
) -> Thresholds:
    """The thresholds that healthy runs of these seeds leave."""
    peaks: dict[str, list[float]] = {"straggler": [], "loss": [], "gradient": []}
    for number, seed in enumerate(seeds):
        if on_progress:
            on_progress(number / len(seeds), f"healthy run {number + 1} of {len(seeds)}")
        for name, peak in run_drill(seed, config=config).peaks.items():
            peaks[name].append(peak)
    rank, value = StragglerMonitor(2, threshold=math.inf).sums[0], DivergenceMonitor("value", threshold=math.inf).sum
    least = {"straggler": rank.most_at_once, "loss": value.most_at_once, "gradient": value.most_at_once}
    return Thresholds(**{name: fix_threshold(values, at_least=least[name]) for name, values in peaks.items()})


def judge(run: DrillRun) -> Outcome:
    """Whether the first alert of the fault's monitor names its rank, and the first alert of all that came without one.

    After a fault others may follow from it (a NaN makes every loss NaN); what comes after it is no false alarm. Only an
    alert before the fault is one, or any in a healthy run.
    """
    fault = run.fault
    start = None if fault is None else fault.step
    early = [alert.step for alert in run.alerts if start is None or alert.step < start]
    found_step = None
    if fault is not None:
        by_rank = fault.kind in ("straggler", "NaN element", "flipped bit")
        told = [
            alert
            for alert in run.alerts
            if alert.step >= fault.step
            and alert.monitor == fault.monitor
            and (not by_rank or alert.where.startswith("rank "))  # a NaN is in the norm too, which names nobody
        ]
        first = min((alert.step for alert in told), default=None)
        named = {alert.where for alert in told if alert.step == first}
        if named and (not by_rank or named == {f"rank {fault.rank}"}):
            found_step = first
    return Outcome(
        fault_step=start,
        found_step=found_step,
        false_step=min(early, default=None),
    )


def try_monitors(
    seeds: Sequence[int],
    thresholds: Thresholds,
    *,
    config: DrillConfig | None = None,
    kinds: Sequence[str] = tuple(KINDS),
    on_progress: OnProgress | None = None,
) -> dict[str, Score]:
    """Every kind of fault once with each seed, and a healthy run of each: the scores by kind, "healthy" last."""
    config = config or DrillConfig()
    if not seeds:
        raise UsageError("A trial of monitors needs at least one seed; got none.")
    last = config.num_steps - 1 - 2 * config.num_shards // config.num_ranks  # an epoch or more is left to find it in
    first = min(24, last)
    scores = {}
    cases = [*kinds, "healthy"]
    for index, kind in enumerate(cases):
        outcomes = []
        for number, seed in enumerate(seeds):
            if on_progress:
                done = (index + number / len(seeds)) / len(cases)
                on_progress(done, f"{kind}: run {number + 1} of {len(seeds)}")
            fault = None
            if kind != "healthy":
                fault = draw_fault(kind, seed, num_ranks=config.num_ranks, first_step=first, last_step=last)
            outcomes.append(judge(run_drill(seed, fault, config=config, thresholds=thresholds)))
        scores[kind] = Score(name=kind, outcomes=tuple(outcomes))
    return scores
