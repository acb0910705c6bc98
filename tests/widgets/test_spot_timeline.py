"""The spot timeline draws at its extremes, and says what the simulation says."""

from __future__ import annotations

from labkit.widgets import spot_timeline


def test_every_extreme_is_drawn() -> None:
    panel = spot_timeline()
    swept = panel.sweep()
    assert len(swept) == 12  # the default, three other policies, two ends of four sliders
    assert panel.error_text == ""


def test_on_demand_pays_the_whole_price() -> None:
    panel = spot_timeline()
    panel.inputs["policy"].value = "on demand"
    assert "done after 24.5 h; 24.5 h of on-demand price against 24.5" in panel._still.text
