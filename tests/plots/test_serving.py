"""The pictures of serving: what they say, and what they refuse."""

from __future__ import annotations

import pytest

from labkit import plots, serving
from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.serving import engine


def run(policy: str, lengths: tuple[int, ...], max_num_seqs: int) -> engine.EngineRun:
    runner = engine.ModelledRunner(lambda decodes, prompt_tokens: 1.0, num_blocks=99)
    asked = [serving.Request(prompt=(0,), max_tokens=length) for length in lengths]
    return engine.run_engine(runner, asked, policy=policy, max_num_seqs=max_num_seqs, clock=runner.clock)


def rates(**values: float) -> dict[int, Measured]:
    return {int(name[1:]): Measured.from_samples("", [v * 0.9, v, v * 1.1], "tokens/s") for name, v in values.items()}


def test_slots_say_the_steps_of_each_policy_and_share_an_axis() -> None:
    runs = {"naive": run("naive", (3, 9, 2), 1), "continuous": run("continuous", (3, 9, 2), 2)}
    picture = plots.plot_slots(runs)
    assert "naive takes 14 model steps, continuous 9" in picture.alt_text
    panels = [axes for axes in picture.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in picture.axes[1:]] == ["naive: 14 steps", "continuous: 9 steps"]
    assert {axes.get_xlim() for axes in picture.axes[1:]} == {(0.0, 14.0)}
    assert panels[-1].get_xlabel() == "model steps"


def test_throughput_says_the_gain_and_marks_what_the_fit_did_not_see() -> None:
    points = rates(b1=40, b4=150, b16=480)
    fit = serving.fit_step_time([1, 16], [1 / 40, 16 / 480])
    picture = plots.plot_throughput({"our engine": points, "vLLM": rates(b1=30, b16=400)}, fit=fit, held_out=[4])
    assert "16 sequences at once bring 12.0× the tokens/s of 1" in picture.alt_text
    labels = [text.get_text() for text in picture.axes[0].get_legend().get_texts()]
    assert labels == ["◇ fit of the step time", "● our engine", "● our engine, not seen by the fit", "● vLLM"]
    assert picture.axes[0].get_ylabel() == "throughput (tokens/s)"


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="recorded steps"):
        plots.plot_slots({})
    with pytest.raises(UsageError, match="at least one engine"):
        plots.plot_throughput({"vLLM": {}})


def test_a_timeline_with_long_names_keeps_its_legend_inside() -> None:
    from labkit.measure import Span, Timeline

    names = ["process and imports", "profiling and the cache of keys", "API server", "warm-up", "loading weights"]
    spans = [Span(lane="vLLM", name=name, start_s=i, end_s=i + 1) for i, name in enumerate(names)]
    picture = plots.plot_timeline(Timeline(spans=tuple(spans)))
    picture.canvas.draw()
    box = picture.legends[0].get_window_extent()
    assert box.x1 <= picture.bbox.x1
    assert box.y0 >= 0
