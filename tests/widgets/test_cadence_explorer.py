"""The cadence explorer draws at its extremes, and its optimum is the best point of its curve."""

from __future__ import annotations

from itertools import product

from labkit.widgets import cadence_explorer
from labkit.widgets.cadence_explorer import _compute


def test_every_extreme_is_drawn() -> None:
    panel = cadence_explorer()
    assert len(panel.sweep()) == 7  # the default, two ends of three sliders
    assert panel.error_text == ""


def test_nothing_on_the_curve_is_better_than_the_optimum() -> None:
    for write_s, restart_s, mtbf_h in product((0.1, 600.0), (0.0, 1200.0), (0.1, 48.0)):
        found = _compute(write_s, restart_s, mtbf_h)
        assert max(found.curve.values()) <= found.marks["exact"][1] * (1 + 1e-12)
        assert all(goodput <= found.marks["exact"][1] * (1 + 1e-12) for _, goodput in found.marks.values())
