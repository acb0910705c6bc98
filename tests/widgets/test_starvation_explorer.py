"""The starvation explorer draws at its extremes, and says what the pipeline says."""

from __future__ import annotations

import re

import pytest

from labkit.errors import UsageError
from labkit.widgets import InputFormat, starvation_explorer

FORMATS = {
    "text": InputFormat(prep_s=0.003, num_bytes=8000),
    "chunks": InputFormat(prep_s=1e-5, num_bytes=130, samples_per_request=64),
}


def training_rate(**values: object) -> float:
    panel = starvation_explorer(FORMATS, 0.01, batch_size=8)
    for name, value in values.items():
        panel.inputs[name].value = value
    found = re.search(r"training ([\d,.]+) samples", panel._still.text)
    assert found
    return float(found[1].replace(",", ""))


def test_every_extreme_is_drawn() -> None:
    panel = starvation_explorer(FORMATS, 0.01, batch_size=8)
    assert len(panel.sweep()) == 10  # the default, one other format, two ends of four sliders
    assert panel.error_text == ""


def test_it_says_what_the_pipeline_gives() -> None:
    # prep 24 ms and fetch 8 · (8,000 B ÷ 10 MB/s + 2 ms) = 22.4 ms, after the step of 10 ms or beside it
    assert training_rate(workers=0) == pytest.approx(8 / 0.0564, rel=0.01)
    assert training_rate() == pytest.approx(8 / 0.0464, rel=0.01)
    assert training_rate(format="chunks") == pytest.approx(800, rel=0.01)  # fed
    assert training_rate(workers=8) == pytest.approx(8 / 0.024, rel=0.03)  # one core prepares for all of them


def test_formats_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least one format"):
        starvation_explorer({}, 0.01, batch_size=8)
    for wrong in ({"prep_s": -1.0}, {"num_bytes": 0.0}, {"samples_per_request": 0.5}):
        with pytest.raises(UsageError, match="takes time, has bytes"):
            InputFormat(**{"prep_s": 0.0, "num_bytes": 1.0} | wrong)
