"""The planner panel: works at every control's extremes, says what it chose and why, and what would fit."""

from __future__ import annotations

from labkit.widgets import planner_panel
from labkit.widgets.planner_panel import FABRICS, MODELS, _compute, _draw


def test_the_panel_works_at_its_extremes() -> None:
    panel = planner_panel()
    swept = panel.sweep()
    assert {each.values["model"] for each in swept} == set(MODELS)
    assert {each.values["fabric"] for each in swept} == set(FABRICS)
    shown = panel._html.value
    assert shown.count("<tr>") >= 3
    assert "torchrun --nnodes=8 --nproc-per-node=8" in shown
    assert "init_device_mesh(" in shown
    assert "not " in shown
    assert "× the time" in shown


def test_a_model_that_cannot_fit_says_what_would() -> None:
    answer = _compute("megatron-530b", 3, "aws-g5", "as it comes", 1e6)
    assert answer.chosen is None
    assert "No plan fits 8 × a10g" in repr(_draw(answer))


def test_the_budget_is_held_against_the_best_plan() -> None:
    poor, rich = (_compute("llama-3-70b", 8, "aws-p5", "as it comes", usd) for usd in (1e3, 1e8))
    assert "over the budget, which pays for" in poor.verdict
    assert "within the budget" in rich.verdict
    assert poor.chosen == rich.chosen
    slow = _compute("llama-3-70b", 8, "aws-p5", "1 Gb Ethernet", 1e8)
    assert slow.chosen is not None
    assert rich.chosen is not None
    assert slow.chosen.best.step_time_s > rich.chosen.best.step_time_s
