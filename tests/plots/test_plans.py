"""Plans as a picture: memory against the budget, time for those that fit, what is missing for those that do not."""

from __future__ import annotations

import pytest

from labkit.errors import UsageError
from labkit.parallel import catalogue
from labkit.parallel.choice import choose
from labkit.parallel.shape import named_shape
from labkit.parallel.splits import Job
from labkit.plots import picture_png, plot_plans
from labkit.units import GIB, format_bytes

JOB = Job(shape=named_shape("llama-3-70b"), batch_size=256, seq_len=4096)


def test_a_row_a_plan() -> None:
    chosen = choose(JOB, catalogue.node("a100-80gb"), 64)
    plain = next(each.plan for each in chosen.rejected if each.kind == "data")
    figure = plot_plans([chosen.best, plain])
    _, memory, seconds = figure.axes
    assert [label.get_text().partition("\n")[0] for label in memory.get_yticklabels()] == [
        chosen.best.name.partition(",")[0],
        plain.name.partition(",")[0],
    ]
    assert memory.lines[0].get_xdata()[0] == pytest.approx(chosen.best.budget_bytes / GIB)
    bars = [patch for patch in seconds.patches if round(patch.get_y() + 0.32) == 0]
    assert sum(bar.get_width() for bar in bars) == pytest.approx(chosen.best.step_time_s, rel=0.05)
    assert [text.get_text() for text in seconds.texts][-1] == f"does not fit by {format_bytes(plain.missing_bytes)}"
    assert figure.axes[0].get_title(loc="left").startswith("Only DP")
    assert "does not fit" in figure.description
    assert picture_png(figure).startswith(b"\x89PNG")


def test_no_plans_no_picture() -> None:
    with pytest.raises(UsageError, match="at least one plan"):
        plot_plans([])
