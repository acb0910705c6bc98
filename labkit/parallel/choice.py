"""A choice that explains itself: the best plan, and the best plan of every other kind with why it was refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from labkit.errors import UsageError
from labkit.parallel import catalogue
from labkit.parallel.catalogue import Node
from labkit.parallel.plan import LIMITS, Plan
from labkit.parallel.planner import SIMPLER_WITHIN, Plans, search
from labkit.parallel.splits import Ints, Job
from labkit.units import GIB

__all__ = ["Choice", "Rejected", "choose", "explain", "kind_of", "reason_against"]

MORE = 1024  # as far as more devices are looked for where none fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The best plan of another kind, and why it is not the choice."""

    kind: str
    plan: Plan
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """best, the plans refused for it (the least bad first), and how many plans were costed and fit."""

    best: Plan
    rejected: tuple[Rejected, ...]
    num_plans: int
    num_fitting: int

    def __str__(self) -> str:
        best = self.best
        lines = [
            f"{best.num_devices} × {best.node.accelerator.name}: {best.name}",
            f"  {best.step_time_s:.3g} s a step, MFU {best.mfu:.0%}, {best.memory.total_bytes / GIB:.1f} of "
            f"{best.budget_bytes / GIB:.1f} GiB; limited by {best.limit}",
            *(f"  not {each.kind}, {each.plan.name}: {each.reason}" for each in self.rejected),
        ]
        return "\n".join(lines)


def choose(job: Job, node: Node, num_devices: int, **options: object) -> Choice:
    """Search every plan, choose one, explain the others. options: what `search` takes.

    UsageError where none fits: it says what the smallest lacks, and which number of devices or accelerator would do.
    """
    return explain(search(job, node, num_devices, **options))  # type: ignore[arg-type]


def explain(plans: Plans) -> Choice:
    """The choice out of a search."""
    best = plans.best()
    if best is None:
        raise UsageError(_what_would_fit(plans))
    rejected = [
        Rejected(kind=kind, plan=plan, reason=reason_against(plan, best))
        for kind, plan in _best_of_each_kind(plans)
        if kind != kind_of(best)
    ]
    rejected.sort(key=lambda each: (not each.plan.fits, each.plan.missing_bytes, each.plan.step_time_s))
    return Choice(best=best, rejected=tuple(rejected), num_plans=len(plans), num_fitting=plans.num_fitting)


def reason_against(plan: Plan, best: Plan) -> str:
    """Why ``plan`` is not chosen where ``best`` is: it does not fit, crosses nodes, is slower, or has more to keep."""
    if not plan.fits:
        largest = max(plan.memory.by_class.items(), key=lambda item: item[1])
        return (
            f"does not fit: {plan.memory.total_bytes / GIB:.1f} GiB a device, {plan.missing_bytes / GIB:.1f} GiB too "
            f"much, most of it {largest[0]}"
        )
    ratio = plan.step_time_s / best.step_time_s
    more = {name: plan.parts_s[name] - best.parts_s[name] for name in plan.parts_s}
    worst = max(more, key=lambda name: more[name])
    if plan.tp_crosses_nodes:
        share = plan.parts_s["tensor"] / plan.step_time_s
        return (
            f"TP {plan.tp} crosses nodes of {plan.node.devices_per_node}: its all-reduces are {share:.0%} of the step, "
            f"{ratio:.2f}× the time"
        )
    if ratio <= 1 + SIMPLER_WITHIN and plan.num_knobs >= best.num_knobs:
        return f"{ratio:.2f}× the time, and {plan.num_knobs} things to set where {best.num_knobs} do"
    wait = LIMITS[worst]
    if worst == "compute":
        if plan.recompute and not best.recompute:
            wait = "recomputing"
        elif plan.pp > best.pp:
            wait = "the last stage, which has the head besides and sets the pace"
    return f"{ratio:.2f}× the time: {more[worst]:.3g} s more for {wait}"


def kind_of(plan: Plan) -> str:
    """``data + sharding + tensor``."""
    names = ("data", "sharding", "tensor", "tensor across nodes", "pipeline")
    used = (plan.dp > 1, plan.stage > 0, plan.tp > 1, plan.tp_crosses_nodes, plan.pp > 1)
    return _kind_name(names, used)


def _kind_name(names: tuple[str, ...], used: tuple[bool, ...]) -> str:
    chosen = [name for name, is_used in zip(names, used, strict=True) if is_used]
    return (
        " + ".join(name for name in chosen if name != "tensor" or "tensor across nodes" not in chosen) or "one device"
    )


def _best_of_each_kind(plans: Plans) -> Iterator[tuple[str, Plan]]:
    """Of each kind the fastest plan that fits, or where none does the one that lacks least."""
    s = plans.splits
    kinds: Ints = (
        (s.dp > 1) + 2 * (s.stage > 0) + 4 * (s.tp > 1) + 8 * (s.tp > plans.node.devices_per_node) + 16 * (s.pp > 1)
    )
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        fitting = rows[plans.fits[rows]]
        if len(fitting):
            index = fitting[np.argmin(plans.times.total_s[fitting])]
        else:
            index = rows[np.argmin(plans.memory_bytes[rows])]
        plan = plans.plan(int(index))
        yield kind_of(plan), plan


def _what_would_fit(plans: Plans) -> str:
    smallest = plans.plan(int(np.argmin(plans.memory_bytes)))
    devices, id = smallest.num_devices, plans.node.accelerator.id
    lacks = (
        f"No plan fits {devices} × {id}: the smallest ({smallest.name}) needs "
        f"{smallest.memory.total_bytes / GIB:.1f} GiB a device where {plans.budget_bytes / GIB:.1f} GiB can be used."
    )
    cures = [f"{n} × {id}" for n in [_enough_devices(plans, devices)] if n]
    cures += [f"{devices} × {other}" for other in _other_accelerators(plans, devices)]
    return (
        f"{lacks} What fits: {', or '.join(cures)}."
        if cures
        else f"{lacks} Nothing in the catalogue of this size fits."
    )


def _enough_devices(plans: Plans, devices: int) -> int | None:
    while devices < MORE:
        devices = max(2 * devices, plans.node.devices_per_node)
        if _fits(plans.job, plans.node, devices):
            return devices
    return None


def _other_accelerators(plans: Plans, devices: int) -> Iterator[str]:
    for id in catalogue.accelerator_ids():
        node = catalogue.node(id)
        if node.accelerator.memory_bytes > plans.node.accelerator.memory_bytes and _fits(plans.job, node, devices):
            yield id


def _fits(job: Job, node: Node, devices: int) -> bool:
    grown = job if job.batch_size % devices == 0 else replace(job, batch_size=job.batch_size * devices)
    try:
        return search(grown, node, devices).best() is not None
    except UsageError:  # sizes that do not divide
        return False
