"""Ten thousand simulated jobs, what our policy saves beside greedy, and the spot timeline's redraw."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from labkit import widgets
from labkit.hardware import machine
from labkit.measure import Measured
from labkit.spot import (
    Availability,
    SpotJob,
    fit_chain,
    generate_availability,
    greedy,
    job_windows,
    planned_policy,
    read_node_events,
    simulate_jobs,
)

__all__ = [
    "BAMBOO",
    "greedy_over_planned",
    "greedy_over_planned_bamboo",
    "missed_deadlines",
    "redraw",
    "ten_thousand_jobs",
]

H = 3600.0
BAMBOO = Path(__file__).resolve().parents[3] / "shared/reference/bamboo_spot/p3-trace.csv"
TIGHT = SpotJob(work_s=48 * H, deadline_s=52 * H, restart_s=0.2 * H, step_s=0.1 * H)
SHORT = SpotJob(work_s=4 * H, deadline_s=4 * H * 52 / 48, restart_s=120, step_s=60)  # as tight, in a trace of 11 h


def ten_thousand_jobs() -> Measured:
    """Seconds of one core: windows, plan and simulation of our policy over a month-long trace."""
    samples = []
    for seed in range(3):
        began = time.process_time()
        month, past = (_month(3, 3, s) for s in (seed, 100 + seed))
        windows = job_windows(month, 10_000, TIGHT.deadline_steps, seed=seed)
        simulate_jobs(TIGHT, windows, planned_policy(TIGHT, *fit_chain(past)))
        samples.append(time.process_time() - began)
    return Measured.from_samples("10,000 jobs", samples, "s", machine=machine().id)


def greedy_over_planned() -> Measured:
    """Gap closed, greedy's ÷ ours, at 52 h for 48 h of work; one sample a generated trace of a month."""
    markets = [(up, down, seed) for up, down in ((2, 2), (3, 3), (6, 2), (2, 4)) for seed in range(3)]
    samples = []
    for up, down, seed in markets:
        windows = job_windows(_month(up, down, seed), 100, TIGHT.deadline_steps, seed=seed)
        samples.append(_ratio(TIGHT, windows, _month(up, down, 100 + seed)))
    return Measured.from_samples("greedy ÷ ours", samples, "×", machine=machine().id)


def greedy_over_planned_bamboo() -> Measured:
    """The same on the public trace, as the 18th to 30th instance of the cluster saw it; the chain is another's.

    Its interval reaches 1: the first instances are there two thirds of the time and reclaimed five times in all, so
    that greedy itself closes over 80 % of the gap, and nobody can close twice as much.
    """
    levels = (18, 20, 22, 24, 26, 28, 30)
    traces: dict[int, Availability] = {level: read_node_events(BAMBOO, nodes=level) for level in (*levels, 16)}
    samples = []
    for before, level in zip((16, *levels), levels, strict=False):
        steps, past = traces[level].sampled(SHORT.step_s), traces[before].sampled(SHORT.step_s)
        samples.append(_ratio(SHORT, job_windows(steps, 100, SHORT.deadline_steps, seed=level), past))
    return Measured.from_samples("greedy ÷ ours, Bamboo p3", samples, "×", machine=machine().id)


def missed_deadlines() -> Measured:
    """Of 10,000 jobs of each of four markets, under our policy with a chain fitted to a wrong market."""
    samples = []
    for up, down in ((2, 2), (3, 3), (6, 2), (2, 4)):
        windows = job_windows(_month(up, down, 0), 10_000, TIGHT.deadline_steps, seed=0)
        samples.append(simulate_jobs(TIGHT, windows, planned_policy(TIGHT, *fit_chain(_month(down, up, 9)))).missed)
    return Measured.from_samples("missed deadlines", samples, "", machine=machine().id)


def redraw() -> Measured:
    """Seconds of the slowest redraw of the spot timeline, at the extremes of its sliders."""
    panel = widgets.spot_timeline()
    samples = [max(swept.redraw_s for swept in panel.sweep()) for _ in range(5)]
    return Measured.from_samples("spot timeline redraw", samples, "s", machine=machine().id)


def _month(up_h: float, down_h: float, seed: int) -> np.ndarray:
    return generate_availability(up_h * H, down_h * H, 720 * H, seed=seed).sampled(TIGHT.step_s)


def _ratio(job: SpotJob, windows: np.ndarray, past: np.ndarray) -> float:
    closed = []
    for policy in (greedy, planned_policy(job, *fit_chain(past))):
        ran = simulate_jobs(job, windows, policy)
        assert ran.missed == 0
        closed.append(job.on_demand_cost - float(ran.cost.mean()))
    return closed[0] / closed[1]  # the room between on demand and the optimum cancels
