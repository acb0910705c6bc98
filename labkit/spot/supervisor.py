"""A real job on instances that are taken away: started, warned, killed and started again, as market and policy say.

    ledger = supervise(train, folder, job=job, market=Lives(lives), policy=greedy, units=200).ledger

``train(worker, folder)`` runs in a process of its own by `labkit.launch`; it takes up what it has saved, tells the
worker what it does, and returns when it is done.
"""

from __future__ import annotations

import math
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labkit.errors import DeadlineError, UsageError
from labkit.measure import OnProgress
from labkit.spot.instance import TICK_S, Instance
from labkit.spot.ledger import Attempt, Ledger
from labkit.spot.market import Market
from labkit.spot.situation import IDLE, SPOT, Policy, Situation, SpotJob

__all__ = ["Supervised", "supervise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """The accounts, and what the job's function returned in the end."""

    ledger: Ledger
    value: Any


def supervise(
    fn: Callable[..., Any],
    *args: Any,
    job: SpotJob,
    market: Market,
    policy: Policy,
    units: int,
    grace_s: float = 0.0,
    on_demand_price_usd_per_h: float = 1.0,
    on_progress: OnProgress | None = None,
    limit_s: float = 600.0,
) -> Supervised:
    """Until fn(worker, *args) returns. units: of work in all, that the worker counts; job: as the policy plans it.

    A spot instance gets SIGTERM grace_s before its end and SIGKILL at it. One that the policy leaves gets SIGTERM, and
    grace_s to save. DeadlineError: not done in limit_s. An error of the job's own ends all.
    """
    if units < 1 or grace_s < 0:
        raise UsageError(f"units must be at least 1 and grace_s at least 0; got {units} and {grace_s!r}.")
    attempts: list[Attempt] = []
    current: Instance | None = None
    spots, start_s = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="labkit-spot-") as name:
        try:
            while True:
                now_s = time.monotonic() - start_s
                if now_s > limit_s:
                    raise DeadlineError(f"The supervised job was not done in {limit_s:g} s, and has been ended.")
                if current is not None and _market_ends(current, market, spots - 1, units, start_s, grace_s):
                    attempts.append(_ended(current, reclaimed=True))
                    current = None
                elif current is not None and (current.finished(units) or (current.over and not current.noticed)):
                    attempts.append(_ended(current, reclaimed=False))
                    break
                answer = int(policy(_situation(job, current, attempts, units, now_s, market.available(now_s))))
                if current is not None and answer != current.kind and not _left(current, units, grace_s):
                    attempts.append(_ended(current, reclaimed=False))
                    current = None
                if current is None and answer != IDLE:
                    told = Path(name) / f"attempt-{len(attempts)}"
                    current = Instance(answer, told, fn, args, limit_s)
                    spots += answer == SPOT
                _report(on_progress, attempts, current, units)
                time.sleep(TICK_S)
        finally:
            if current is not None and not current.over:
                current.kill()
    ledger = Ledger(
        attempts=tuple(attempts),
        start_s=start_s,
        end_s=attempts[-1].end_s,
        spot_price_usd_per_h=job.spot_price * on_demand_price_usd_per_h,
        on_demand_price_usd_per_h=on_demand_price_usd_per_h,
    )
    return Supervised(ledger=ledger, value=current.value if current is not None else None)


def _market_ends(current: Instance, market: Market, number: int, units: int, start_s: float, grace_s: float) -> bool:
    """Warn it when its time comes near, kill it when it has come; true when it is dead and its job is not done."""
    if current.kind != SPOT or current.finished(units):
        return False
    ready = [at for at, what, _ in current.events if what == "ready"]
    at_s = start_s + market.reclaim_at(number, current.start_s - start_s, ready[0] - start_s if ready else None)
    if time.monotonic() >= at_s:
        current.kill()
        return not current.finished(units)  # it may have been done a moment before
    if grace_s and not current.noticed and time.monotonic() >= at_s - grace_s:
        current.signal(signal.SIGTERM)
    return False


def _left(current: Instance, units: int, grace_s: float) -> bool:
    """The policy leaves an instance: warned, given its grace, killed. True where the job was done before: it stays."""
    until = time.monotonic() + grace_s
    while not current.over and time.monotonic() < until:
        if not current.noticed:
            current.signal(signal.SIGTERM)
        time.sleep(TICK_S)
    current.kill()
    return current.finished(units)


def _ended(current: Instance, *, reclaimed: bool) -> Attempt:
    if current.error is not None and not current.killed:
        raise current.error
    return Attempt(
        kind=current.kind,
        start_s=current.start_s,
        end_s=time.monotonic(),
        events=tuple(current.events),
        reclaimed=reclaimed,
        taken_s=current.killed_s,
    )


def _situation(
    job: SpotJob, current: Instance | None, attempts: list[Attempt], units: int, now_s: float, available: bool
) -> Situation:
    events = current.events if current is not None else []
    kept = max([v for _, what, v in events if what in ("ready", "saved")] + [a.kept for a in attempts] or [0])
    done = max([v for _, what, v in events if what == "did"] + [kept])
    is_ready = any(what == "ready" for _, what, _ in events)
    started_s = time.monotonic() - current.start_s if current is not None else math.inf
    unit_s = job.work_s / units
    return Situation(
        job=job,
        time_left_s=np.float64(job.deadline_s - now_s),
        work_left_s=np.float64((units - done) * unit_s),
        at_risk_s=np.float64((done - kept) * unit_s if current is not None and current.kind == SPOT else 0.0),
        available=np.bool_(available or (current is not None and current.kind == SPOT)),
        running=np.int64(current.kind if current is not None else IDLE),
        start_left_s=np.float64(0.0 if is_ready or current is None else max(job.step_s, job.restart_s - started_s)),
    )


def _report(on_progress: OnProgress | None, attempts: list[Attempt], current: Instance | None, units: int) -> None:
    if on_progress is not None:
        kept = max([a.kept for a in attempts] or [0])
        on_progress(min(1.0, kept / units), f"{kept} of {units} kept, {sum(a.reclaimed for a in attempts)} reclaims")
