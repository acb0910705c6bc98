"""A run under a budget: the number of devices and the plan that train so many tokens in time, for the least money."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.errors import UsageError
from labkit.parallel.catalogue import Node
from labkit.parallel.choice import Choice, choose
from labkit.parallel.plan import Plan
from labkit.parallel.planner import device_counts, search
from labkit.parallel.splits import Job

__all__ = ["best_plans", "within_budget"]


def best_plans(job: Job, offers: Sequence[Node], max_devices: int, **options: object) -> tuple[Plan, ...]:
    """The best plan of each number of devices (powers of two) on each offer, the cheapest run first."""
    found = []
    for node in offers:
        if node.price_usd_per_node_h is None:
            raise UsageError(f"{node.id} has no price, so no money can be reckoned. Take one of catalogue.nodes().")
        for devices in device_counts(node, max_devices):
            try:
                best = search(job, node, devices, **options).best()  # type: ignore[arg-type]
            except UsageError:  # sizes that do not divide over so many
                continue
            if best is not None:
                found.append(best)
    return tuple(sorted(found, key=lambda plan: (plan.usd or 0.0, plan.num_devices)))


def within_budget(
    job: Job,
    offers: Sequence[Node],
    *,
    max_devices: int = 1024,
    budget_usd: float = float("inf"),
    deadline_days: float = float("inf"),
) -> Choice:
    """The cheapest plan that is within budget and in time, explained. UsageError that says what would do."""
    if not job.num_tokens:
        raise UsageError("A budget is for a whole run: give the job num_tokens.")
    if not budget_usd > 0 or not deadline_days > 0:
        raise UsageError(f"Budget and deadline must be above 0; got {budget_usd!r} USD and {deadline_days!r} days.")
    plans = best_plans(job, offers, max_devices)
    if not plans:
        largest = max(offers, key=lambda node: node.accelerator.memory_bytes, default=None)
        if largest is None:
            raise UsageError("A run needs at least one offer to choose from; got none. Take catalogue.nodes().")
        return choose(job, largest, max(device_counts(largest, max_devices)))  # raises, and says what would fit
    good = [plan for plan in plans if (plan.usd or 0.0) <= budget_usd and plan.days <= deadline_days]
    if not good:
        raise UsageError(_what_would_do(job, plans, budget_usd, deadline_days))
    return choose(job, good[0].node, good[0].num_devices)


def _what_would_do(job: Job, plans: Sequence[Plan], budget_usd: float, deadline_days: float) -> str:
    wanted = f"{job.num_tokens:.3g} tokens within {budget_usd:,.0f} USD and {deadline_days:g} days"
    cheapest, fastest = plans[0], min(plans, key=lambda plan: plan.days)
    cures = []
    in_time = [plan for plan in plans if plan.days <= deadline_days]
    affordable = [plan for plan in plans if (plan.usd or 0.0) <= budget_usd]
    if in_time:
        cures.append(f"{in_time[0].usd:,.0f} USD on {_place(in_time[0])}")
    if affordable:
        quickest = min(affordable, key=lambda plan: plan.days)
        cures.append(f"{quickest.days:.1f} days on {_place(quickest)}")
    if not cures:
        cures.append(f"{fastest.usd:,.0f} USD and {fastest.days:.1f} days on {_place(fastest)}")
    if budget_usd < (cheapest.usd or 0.0):
        cures.append(f"{job.num_tokens * budget_usd / (cheapest.usd or 1.0):.3g} tokens on {_place(cheapest)}")
    return f"No plan trains {wanted}. What would do: {'; or '.join(cures)}."


def _place(plan: Plan) -> str:
    return f"{plan.num_devices} × {plan.node.id}"
