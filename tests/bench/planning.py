"""How long the planner takes to cost every plan, and its panel to redraw."""

from __future__ import annotations

from labkit import widgets
from labkit.hardware import machine
from labkit.measure import Measured, repeat
from labkit.parallel import catalogue, choice
from labkit.parallel.shape import named_shape
from labkit.parallel.splits import Job


def every_plan() -> Measured:
    """Seconds of the search and its explanation: Llama-3-70B on 1,024 A100s, every split, stage and micro-batch."""
    job = Job(shape=named_shape("llama-3-70b"), batch_size=1024, seq_len=8192)
    node = catalogue.node("a100-80gb")
    return repeat(lambda: choice.choose(job, node, 1024), name="every plan for 70B on 1,024", repeats=9, warmup=1)


def panel_redraw() -> Measured:
    """Seconds of a redraw of the planner panel at every extreme of its controls: the slowest of them, five times."""
    panel = widgets.planner_panel()
    samples = [max(swept.redraw_s for swept in panel.sweep()) for _ in range(5)]
    return Measured.from_samples("planner panel, slowest redraw", samples, "s", machine=machine().id)
