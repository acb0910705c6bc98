"""The schedule explorer draws at its extremes, and says what the schedule says."""

from __future__ import annotations

from itertools import product

import pytest

from labkit.parallel.cost import pipeline_bubble
from labkit.parallel.schedules import SCHEDULES
from labkit.widgets import schedule_explorer
from labkit.widgets.schedule_explorer import MOST_CHUNKS, MOST_MICROBATCHES, MOST_STAGES, explored_schedule


def test_every_extreme_is_drawn() -> None:
    panel = schedule_explorer()
    swept = panel.sweep()
    assert len(swept) == 10  # the default, three other schedules, two ends of three sliders
    assert panel.error_text == ""


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_all_corners_are_schedules(name: str) -> None:
    for stages, microbatches, chunks in product((2, MOST_STAGES), (1, MOST_MICROBATCHES), (1, MOST_CHUNKS)):
        made = explored_schedule(name, stages, microbatches, chunks)
        assert made.num_stages == stages
        assert made.num_microbatches >= microbatches
        assert made.num_chunks == (chunks if name == "interleaved 1F1B" else 1)


def test_it_says_the_bubble() -> None:
    panel = schedule_explorer(schedule="interleaved 1F1B", stages=4, microbatches=6, chunks=2)
    said = panel._still.text
    assert f"Idle for {pipeline_bubble(4, 8, 2):.1%} of the ideal time" in said
    assert "interleaved 1F1B, 8 micro-batches, 2 chunks" in said  # rounded up to whole rounds of four
    panel.inputs["stages"].value = 2
    assert f"Idle for {pipeline_bubble(2, 6, 2):.1%}" in panel._still.text
