"""A panel over one job with a deadline: market, policy, slack and price in; its instances and its money out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.plots.picture import Picture
from labkit.plots.spot import plot_spot_job
from labkit.spot.availability import generate_availability
from labkit.spot.planned import planned_policy
from labkit.spot.policies import greedy, on_demand, uniform_progress
from labkit.spot.simulation import Simulation, simulate_jobs
from labkit.spot.situation import Policy, SpotJob
from labkit.widgets.controls import Choice, Slider
from labkit.widgets.panel import Panel

__all__ = ["POLICIES", "spot_timeline"]

POLICIES = ("planned", "uniform progress", "greedy", "on demand")
_H, _STEP_S = 3600.0, 1800.0  # half an hour: the plan is made anew in some hundredths of a second


def spot_timeline(*, work_h: float = 24.0, restart_h: float = 0.5, seed: int = 0) -> Panel:
    """A Panel. The market is generated; the planned policy knows its mean times, as it would from a past trace."""

    def compute(
        policy: str, up: float, down: float, slack: float, price: float
    ) -> tuple[Simulation, NDArray[np.bool_]]:
        job = SpotJob(
            work_s=work_h * _H, deadline_s=(work_h + slack) * _H, restart_s=restart_h * _H, step_s=_STEP_S,
            spot_price=price,
        )  # fmt: skip
        market = generate_availability(up * _H, down * _H, job.deadline_s, seed=seed).sampled(_STEP_S)
        windows = market[None, : job.deadline_steps]
        return simulate_jobs(job, windows, _policy(policy, job, up, down), keep_held=True), windows[0]

    def draw(found: Any) -> Picture:
        return plot_spot_job(*found)

    return Panel(
        compute,
        draw,
        {
            "policy": Choice(options=POLICIES, label="policy"),
            "up": Slider(min=1.0, max=24.0, value=4.0, step=0.5, label="spot is there for", unit="h on average"),
            "down": Slider(min=0.5, max=12.0, value=3.0, step=0.5, label="and then gone for", unit="h on average"),
            "slack": Slider(min=1.0, max=24.0, value=3.0, step=0.5, label="deadline minus work", unit="h"),
            "price": Slider(min=0.05, max=1.0, value=0.3, step=0.05, label="spot price", unit="of on demand"),
        },
        title=f"{work_h:g} hours of work under a deadline",
    )


@lru_cache(maxsize=64)
def _policy(name: str, job: SpotJob, up: float, down: float) -> Policy:
    known: dict[str, Policy] = {"uniform progress": uniform_progress, "greedy": greedy, "on demand": on_demand}
    if name in known:
        return known[name]
    return planned_policy(job, min(1.0, _STEP_S / (up * _H)), min(1.0, _STEP_S / (down * _H)))
