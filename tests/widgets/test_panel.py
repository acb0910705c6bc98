"""A panel redraws what its controls say, once for events that queue up, and hides no error."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from labkit.errors import UsageError
from labkit.plots import new_plot, table
from labkit.widgets import Choice, Panel, Slider

SLIDER = Slider(min=0, max=10, value=2, label="size")


def square(size: int) -> int:
    return size * size


def draw(data: float) -> Figure:
    figure, axes = new_plot(f"The square is {data}", "size (1)", "square (1)")
    axes.plot([0, 1], [0, data])
    return figure


def refuse_three(size: int) -> int:
    try:
        if size == 3:
            {}["three"]
    except KeyError as error:
        raise RuntimeError("cannot do <three>") from error
    return size


def test_a_moved_slider_redraws_in_place() -> None:
    panel = Panel(square, draw, {"size": SLIDER})
    before, image = panel._image.png, panel._image
    panel.inputs["size"].value = 3
    assert panel.num_redraws == 2
    assert panel._image is image
    assert image.png.startswith(b"\x89PNG")
    assert image.png != before
    assert image.alt == "The square is 9."
    assert 0 < panel.last_redraw_s < 60


def test_last_redraw_is_told_by_the_clock() -> None:
    ticks = iter(range(100))
    panel = Panel(square, str, {"size": SLIDER}, clock=lambda: float(next(ticks)))
    assert panel.last_redraw_s == 1.0


def test_events_that_queue_up_are_drawn_once() -> None:
    seen: list[int] = []

    async def move() -> None:
        for value in (3, 4, 5, 6):
            panel.inputs["size"].value = value
        while panel._pending is not None:
            await asyncio.sleep(0.001)

    panel = Panel(lambda size: seen.append(size) or size, str, {"size": SLIDER})
    asyncio.run(move())
    assert seen == [2, 3, 6]  # at rest it answers at once; what came while it drew is drawn once


@pytest.mark.parametrize(
    ("drawn", "html"),
    [
        ("<b>bold</b>", "<b>bold</b>"),
        ("1 < 2", "<pre>1 &lt; 2</pre>"),
        (table([]), table([])._repr_html_()),
    ],
    ids=["html", "text", "object"],
)
def test_render_may_return_html_text_or_an_object(drawn: Any, html: str) -> None:
    panel = Panel(square, lambda _data: drawn, {"size": SLIDER})
    assert (panel._html.value, panel._html.layout.display) == (html, "")
    assert panel._image.layout.display == "none"


def test_render_may_not_return_anything_else() -> None:
    panel = Panel(square, lambda data: data, {"size": SLIDER})
    assert "render must return a matplotlib Figure" in panel.error_text


def test_an_error_is_shown_with_its_cause_recorded_and_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = tmp_path / "failures.jsonl"
    monkeypatch.setenv("LABKIT_WIDGET_FAILURES", str(failures))
    panel = Panel(refuse_three, str, {"size": SLIDER}, title="Threes")
    assert panel.error_text == ""
    panel.inputs["size"].value = 3
    assert "RuntimeError: cannot do &lt;three&gt;" in panel.error_text
    assert "caused by KeyError" in panel.error_text
    assert 'role="alert"' in panel.error_text
    assert panel._html.layout.display == "none"  # the picture of another value must not stand beside it
    (line,) = map(json.loads, failures.read_text().splitlines())
    assert (line["widget"], line["where"], line["error"], line["message"], line["values"]) == (
        "Panel", "Threes", "RuntimeError", "cannot do <three>", "{'size': 3}",
    )  # fmt: skip
    assert "KeyError" in line["traceback"]
    panel.inputs["size"].value = 4
    assert panel.error_text == ""
    assert panel._html.value == "<pre>4</pre>"


def test_sweep_tries_the_default_and_every_extreme() -> None:
    controls = {
        "size": SLIDER,
        "rate": Slider(min=0.001, max=1000.0, value=1.0, log=True),
        "kind": Choice(options=("ring", "tree", "star"), value="tree"),
    }
    panel = Panel(lambda size, rate, kind: (size, rate, kind), str, controls)
    panel.inputs["size"].value = 7  # where the learner left it does not matter
    assert [tuple(swept.values.values()) for swept in panel.sweep()] == [
        (2, 1.0, "tree"), (0, 1.0, "tree"), (10, 1.0, "tree"), (2, 0.001, "tree"), (2, 1000.0, "tree"),
        (2, 1.0, "ring"), (2, 1.0, "star"),
    ]  # fmt: skip


def test_sweep_raises_and_says_where() -> None:
    panel = Panel(lambda size: 1 / size, str, {"size": SLIDER}, title="Inverse")
    with pytest.raises(ZeroDivisionError) as caught:
        panel.sweep()
    assert caught.value.__notes__ == ["In the panel Inverse at {'size': 0}."]


def test_without_a_front_end_the_extremes_are_run_and_an_error_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = tmp_path / "failures.jsonl"
    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    monkeypatch.setenv("LABKIT_WIDGET_FAILURES", str(failures))
    with pytest.raises(ZeroDivisionError):
        Panel(lambda size: 1 / size, str, {"size": SLIDER})
    assert json.loads(failures.read_text())["values"] == "{'size': 0}"
    panel = Panel(square, draw, {"size": SLIDER}, title="Squares")
    assert set(panel._repr_mimebundle_()) == {"text/plain", "image/png"}
    assert panel._repr_mimebundle_()["text/plain"] == "Panel Squares: size=2\nThe square is 4."


def test_with_a_front_end_the_panel_is_live_with_a_still_picture_beside() -> None:
    bundle = Panel(square, draw, {"size": SLIDER})._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"} <= set(bundle)


def test_every_control_has_a_name_and_a_unit() -> None:
    controls = {
        "num_ranks": Slider(min=1, max=256, value=64, unit="ranks"),
        "delay": Slider(min=0.01, max=10, value=0.5, log=True, label="latency", unit="ms"),
        "kind": Choice(options=("ring", "tree"), label="algorithm"),
    }
    ranks, delay, kind = Panel(lambda **values: values, str, controls).inputs.values()
    assert (ranks.label, ranks.readout, ranks.hint) == ("num ranks", "64 ranks", "num ranks, from 1 to 256 ranks")
    assert (delay.label, delay.readout) == ("latency", "0.5 ms")
    assert (kind.label, kind.names, kind.value) == ("algorithm", ["ring", "tree"], "ring")


def test_a_slider_moved_by_the_front_end() -> None:
    ranks, delay = (
        Panel(lambda v: v, str, {"v": spec}).inputs["v"]
        for spec in (Slider(min=1, max=256, value=64), Slider(min=0.01, max=10, value=0.5, log=True))
    )
    ranks.set_state({"position": 65.0})
    assert (ranks.value, type(ranks.value), ranks.readout) == (65, int, "65")
    delay.set_state({"position": -2.0})
    assert delay.value == 0.01
    delay.set_state({"position": 0.3})
    assert delay.value == pytest.approx(10**0.3, rel=1e-3)
    delay.value = 100.0  # beyond the end
    assert (delay.value, delay.position) == (10.0, 1.0)


def test_a_choice_moved_by_the_front_end() -> None:
    panel = Panel(lambda kind: kind, str, {"kind": Choice(options=(1, 2, 4), value=2)})
    panel.inputs["kind"].set_state({"index": 2})
    assert panel._html.value == "<pre>4</pre>"
    with pytest.raises(UsageError, match="must be one of"):
        panel.inputs["kind"].value = 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Slider(min=2, max=1, value=1), "min < max"),
        (lambda: Slider(min=0, max=1, value=2), "between 0 and 1; got 2"),
        (lambda: Slider(min=0, max=1, value=1, step=0), "step must be above 0"),
        (lambda: Slider(min=0, max=1, value=1, log=True), "needs min > 0"),
        (lambda: Choice(options=()), "at least one option"),
        (lambda: Choice(options=(1, 2), value=3), "must be one of"),
        (lambda: Panel(square, str, {}), "at least one control"),
    ],
)
def test_controls_that_cannot_be_meant(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
