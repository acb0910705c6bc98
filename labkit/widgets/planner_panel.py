"""The planner to turn by hand: a model, devices, a link and a budget in; the best plan, its rivals, its command out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape

from labkit.errors import UsageError
from labkit.parallel import catalogue
from labkit.parallel.choice import Choice as Chosen
from labkit.parallel.choice import explain
from labkit.parallel.plan import Plan
from labkit.parallel.planner import search
from labkit.parallel.shape import SHAPES
from labkit.parallel.splits import Job
from labkit.plots.figures import Shown
from labkit.units import GIB, format_bytes, format_seconds
from labkit.widgets.controls import Choice, Slider
from labkit.widgets.panel import Panel

__all__ = ["planner_panel"]

MODELS = ("smollm2-135m", "llama-3-8b", "llama-2-13b", "llama-3-70b", "gpt-3-175b", "megatron-530b")
FABRICS = {"as it comes": None, "InfiniBand NDR": 50e9, "25 Gb Ethernet": 3.125e9, "1 Gb Ethernet": 0.125e9}
BATCH, SEQ_LEN, NUM_TOKENS, RIVALS = 1024, 4096, 1e11, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    chosen: Chosen | None
    verdict: str


def planner_panel() -> Panel:
    """Plans for 10¹¹ tokens in steps of 1,024 sequences of 4,096 tokens: what to choose, and why not something else."""
    nodes = tuple(node.id for node in catalogue.nodes())
    return Panel(
        _compute,
        _draw,
        {
            "model": Choice(options=MODELS, value="llama-3-70b", label="model"),
            "devices_log2": Slider(min=3, max=10, value=6, step=1, label="devices, as a power of two"),
            "node": Choice(options=nodes, value="azure-ndm-a100", label="node"),
            "fabric": Choice(options=tuple(FABRICS), label="link to other nodes, each device's"),
            "budget_usd": Slider(min=1e3, max=1e8, value=1e6, step=0.25, log=True, label="budget", unit="USD"),
        },
        title="Which parallelism does this run need?",
    )


def _compute(model: str, devices_log2: int, node: str, fabric: str, budget_usd: float) -> _Answer:
    job = Job(shape=SHAPES[model], batch_size=BATCH, seq_len=SEQ_LEN, num_tokens=NUM_TOKENS)
    place, share = catalogue.node(node), FABRICS[fabric]
    if share is not None:
        place = replace(place, network_bytes_per_s=share * place.devices_per_node)
    try:
        # Stage 2 lies between 1 and 3 in everything, and half the redraw.
        chosen = explain(search(job, place, 2**devices_log2, stages=(0, 1, 3)))
    except UsageError as error:
        return _Answer(chosen=None, verdict=str(error))
    usd, days = chosen.best.usd or 0.0, chosen.best.days
    if usd <= budget_usd:
        return _Answer(chosen=chosen, verdict=f"{usd:,.0f} USD and {days:,.1f} days: within the budget.")
    tokens = NUM_TOKENS * budget_usd / usd
    return _Answer(
        chosen=chosen,
        verdict=f"{usd:,.0f} USD and {days:,.1f} days: over the budget, which pays for {tokens:.2g} tokens.",
    )


def _draw(answer: _Answer) -> Shown:
    """A bar a plan for memory and for time, the reasons, and what to type. Drawn as HTML: a plot takes twice 100 ms."""
    if answer.chosen is None:
        return Shown(f"<p>◇ {escape(answer.verdict)}</p>", answer.verdict)
    best, rivals = answer.chosen.best, answer.chosen.rejected[:RIVALS]
    title = f"◇ {best.name}: {answer.verdict}"
    lines = [
        f"MFU {best.mfu:.0%}, limited by {best.limit}; {answer.chosen.num_fitting:,} of "
        f"{answer.chosen.num_plans:,} plans fit",
        *(f"not {each.plan.name}: {each.reason}" for each in rivals),
        best.torchrun(),
        best.device_mesh(),
    ]
    plans = [best, *(each.plan for each in rivals)]
    longest = max(plan.step_time_s for plan in plans if plan.fits)
    head = "".join(f"<th>{name}</th>" for name in ("plan", f"of {best.budget_bytes / GIB:.0f} GiB a device", "a step"))
    rows = "".join(_row(plan, longest) for plan in plans)
    table = f'<table style="width:100%;text-align:left"><tr>{head}</tr>{rows}</table>'
    text = "\n".join(lines)
    wrap = 'style="white-space:pre-wrap"'
    return Shown(f"<div><b>{escape(title)}</b>{table}<pre {wrap}>{escape(text)}</pre></div>", f"{title}\n{text}")


def _row(plan: Plan, longest_s: float) -> str:
    memory = _bar(plan.memory.total_bytes / plan.budget_bytes, format_bytes(plan.memory.total_bytes))
    missing = f"does not fit by {format_bytes(plan.missing_bytes)}"
    time = _bar(plan.step_time_s / longest_s, format_seconds(plan.step_time_s)) if plan.fits else missing
    return f"<tr><td>{escape(plan.name)}</td><td>{memory}</td><td>{time}</td></tr>"


def _bar(share: float, label: str) -> str:
    """A bar of at most 8 em, with its number beside it."""
    width = 8 * min(share, 1.0)
    box = "display:inline-block;height:0.8em;margin-right:6px;border:1px solid currentColor"
    fill = "repeating-linear-gradient(45deg,transparent 0 3px,currentColor 3px 4px)"
    return f'<span style="{box};width:{width:.2f}em;background:{fill}"></span>{label.replace(" ", "&nbsp;")}'
