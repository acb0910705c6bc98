"""The pictures of an input pipeline: what they say, and what they refuse."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_rgba

from labkit import plots
from labkit.errors import UsageError
from labkit.loader.pipeline import InputPipeline
from labkit.loader.simulated_feed import simulate_feed
from labkit.measure import Measured
from labkit.plots.timeline import category_styles, shown_categories


def seconds(*samples: float) -> Measured:
    return Measured.from_samples("", samples, "s")


def test_the_parts_of_a_batch_need_no_colour() -> None:
    parts = {"ingest": seconds(0.02), "prep": seconds(0.03), "fetch": seconds(0.05)}
    near = parts | {"fetch": seconds(-0.001)}  # noise about zero
    picture = plots.plot_input_parts({"text, far": parts, "text, near": near})
    assert picture.alt_text.startswith("text, far: 80% of a step is waiting for data.")
    assert "text, far: ingest 20, prep 30, fetch 50; text, near: ingest 20, prep 30, fetch 0" in picture.alt_text
    axes = picture.axes[0]
    assert axes.get_xlabel() == "time of a batch, one after the other (ms)"
    assert {"20", "30", "50", "100, 20% of it training"} <= {text.get_text() for text in axes.texts}
    assert len({patch.get_hatch() for patch in axes.patches[:3]}) == 3


def test_the_parts_look_as_in_the_timeline() -> None:
    timeline = simulate_feed(InputPipeline(ingest_s=1, prep_s=2, fetch_s=3), 4, num_workers=1).timeline
    styles = category_styles(shown_categories(timeline))
    picture = plots.plot_input_parts({"text": {part: seconds(1) for part in ("ingest", "prep", "fetch")}})
    drawn = {tuple(patch.get_facecolor()): patch.get_hatch() for patch in picture.axes[0].patches}
    assert drawn == {to_rgba(color): hatch for color, hatch in (styles[name] for name in ("train", "prep", "fetch"))}


def test_waits_foretold_and_measured() -> None:
    picture = plots.plot_waits({"text": 0.011, "tar": 0.02}, {"text": seconds(0.01), "tar": seconds(0.02, 0.021)})
    assert picture.alt_text.startswith("The waits come as foretold, to 10%.")
    assert "text: foretold 11, measured 10 ms" in picture.alt_text
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["◇ foretold", "● measured"]


def test_rates_of_the_stages() -> None:
    picture = plots.plot_input_rates(
        {"ingest": 300.0, "prep": 200.0, "fetch": 400.0}, 150.0, unit="samples/s", title="x"
    )
    assert "ingest 300, prep 200, fetch 400; training 150 samples/s" in picture.alt_text
    assert len({patch.get_hatch() for patch in picture.axes[0].patches}) == 3


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="at least one format"):
        plots.plot_input_parts({})
    with pytest.raises(UsageError, match="at least one case"):
        plots.plot_waits({}, {})
    with pytest.raises(UsageError, match="tar has none"):
        plots.plot_waits({}, {"tar": seconds(1)})
    with pytest.raises(UsageError, match="at least one stage"):
        plots.plot_input_rates({}, 1.0, unit="", title="")
