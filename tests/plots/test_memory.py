"""Memory bars: as long as the bytes, told apart without colour."""

from __future__ import annotations

import pytest

from labkit.errors import UsageError
from labkit.parallel.memory import CLASSES, peak_memory
from labkit.parallel.shape import SHAPES
from labkit.plots import plot_memory


def test_bars_are_as_long_as_the_bytes_and_each_class_has_its_hatch() -> None:
    uses = {f"stage {s}": peak_memory(SHAPES["llama-3-8b"], seq_len=512, dp=8, stage=s) for s in range(4)}
    figure = plot_memory(uses, limit_bytes=80e9)
    bars = figure.axes[0].patches
    assert len(bars) == 4 * len(CLASSES)
    for row, use in enumerate(uses.values()):
        widths = [bar.get_width() for bar in bars[row * 5 : row * 5 + 5]]
        assert widths == pytest.approx([use.by_class[name] / 1e9 for name in CLASSES])
    assert len({bar.get_hatch() for bar in bars}) == len(CLASSES)
    assert "GB" in figure.axes[0].get_xlabel()
    assert "stage 3 takes" in figure.axes[0].get_title("left")
    assert figure.description.startswith("stage 0: ")


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one row"):
        plot_memory({})
