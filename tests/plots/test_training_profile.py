"""The pictures of a training profile: what they say, and what they refuse."""

from __future__ import annotations

import pytest

from labkit import plots
from labkit.errors import UsageError
from labkit.measure import PARTS, Gain, Measured, Quoted, TrainingProfile


def profiled(wait_s: float = 0.05) -> TrainingProfile:
    seconds = dict.fromkeys(PARTS, 0.0) | {"wait for data": wait_s, "forward": 0.02, "backward": 0.03}
    steps_s = (sum(seconds.values()),) * 6
    return TrainingProfile(
        name="a job", parts_s={part: (value,) * 6 for part, value in seconds.items()}, step_s=steps_s,
        plain_s=steps_s, cpu_s=steps_s, flops=10**9, machine="abc", device="cpu", num_threads=1,
        peak=Quoted(name="peak", value=2.5e10, unit="FLOP/s", source="a data sheet"),
    )  # fmt: skip


def test_the_parts_stand_in_milliseconds_and_none_needs_its_colour() -> None:
    picture = plots.plot_training_profile({"as found": profiled(), "repaired": profiled(0.001)})
    assert picture.alt_text.startswith("wait for data: 50% of a step.")
    assert "as found: wait for data 50, copy 0, forward 20" in picture.alt_text
    axes = picture.axes[0]
    assert axes.get_xlabel() == "time of a step (ms)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["as found", "repaired"]
    assert {"50", "20", "30", "100", "51"} <= {text.get_text() for text in axes.texts}
    paints = [(patch.get_facecolor(), patch.get_hatch()) for patch in axes.patches[: len(PARTS)]]
    hatches = [hatch for _, hatch in paints if hatch]
    assert len(set(hatches)) == len(hatches) == 4  # what no faster device shortens, each in its own


def test_utilisation_beside_allocation() -> None:
    picture = plots.plot_utilisation(profiled())
    assert picture.alt_text.startswith("Allocated all of the time, and 40% of it is used.")
    labels = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert labels[0] == "allocated (the bill)"
    assert labels[-1] == "computed ÷ peak"


def test_gains_foretold_and_measured() -> None:
    foretold = {
        "tokenise once": Gain(name="", value=2.0, low=1.8, high=2.1),
        "log less": Gain(name="", value=1.1, low=1, high=1.2),
    }
    measured = {"tokenise once": Measured.from_samples("", [1.9, 2.0, 2.2], "×")}
    picture = plots.plot_gains(foretold, measured)
    assert "tokenise once: 2.00×; the profile said 2.00×" in picture.alt_text
    assert "log less: foretold 1.10×" in picture.alt_text
    legend = [text.get_text() for text in picture.legends[0].get_texts()]
    assert legend == ["◇ foretold", "● measured"]


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="at least one profile"):
        plots.plot_training_profile({})
    with pytest.raises(UsageError, match="a prediction for each"):
        plots.plot_gains({}, {"x": Measured.from_samples("", [1.0], "×")})
