"""The memory bar draws at every extreme of its controls, and says what fits."""

from __future__ import annotations

import pytest

from labkit.errors import UsageError
from labkit.units import GB
from labkit.widgets import memory_bar


def test_it_draws_at_every_extreme() -> None:
    panel = memory_bar()
    swept = panel.sweep()
    assert len(swept) >= 10
    assert panel.error_text == ""


@pytest.mark.parametrize(
    ("device_bytes", "values", "title"),
    [
        (80 * GB, {"devices": 8.0}, "From stage 2 + gradients on it fits 80 GB"),
        (80 * GB, {"devices": 1.0}, "No stage fits 80 GB"),
        (1000 * GB, {}, "Even unsharded it fits 1000 GB"),
    ],
)
def test_its_title_is_the_finding(device_bytes: float, values: dict[str, float], title: str) -> None:
    panel = memory_bar(device_bytes)
    for name, value in values.items():
        panel.inputs[name].value = value
    assert title in panel._still.text


def test_what_cannot_be_shown() -> None:
    with pytest.raises(UsageError, match="device_bytes must be finite and above 0"):
        memory_bar(0)
    with pytest.raises(UsageError, match="No model is named 'llama-9'"):
        memory_bar(models=("llama-9",))
