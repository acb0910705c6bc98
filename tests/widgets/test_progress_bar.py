"""One bar a call, at most ten pictures a second, one line left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import labkit.widgets.progress_bar as module
from labkit.widgets import progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen:
    """Stands for the notebook: what each display handle showed, in order."""

    def __init__(self) -> None:
        self.handles: list[list[str]] = []

    def display(self, shown: object, *, display_id: bool) -> Any:
        assert display_id
        self.handles.append([repr(shown)])
        return self

    def update(self, shown: object) -> None:
        self.handles[-1].append(repr(shown))


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr(module, "display", screen.display)
    monkeypatch.setattr(module, "get_ipython", lambda: object())
    return screen


def work(on_progress: Callable[[float, str], None], clock: Clock) -> None:
    for step in range(100):  # 4 s in steps of 40 ms
        on_progress(step / 100, f"size {step}")
        clock.now += 0.04


def test_ten_pictures_a_second_at_most_and_one_last_line(screen: Screen) -> None:
    clock = Clock()
    with progress("measure", clock=clock) as on_progress:
        work(on_progress, clock)
    (pictures,) = screen.handles
    assert 20 <= len(pictures) <= 41
    assert pictures[0] == "measure: 0% · size 0"
    assert pictures[-1] == "measure: done in 4 s"
    assert any("to go" in picture for picture in pictures)


def test_bare_it_ends_at_one_and_can_be_used_again(screen: Screen) -> None:
    clock = Clock()
    on_progress = progress("measure", clock=clock)
    for _ in range(2):
        work(on_progress, clock)
        on_progress(1.0, "")
    assert [pictures[-1] for pictures in screen.handles] == ["measure: done in 4 s"] * 2


def test_an_error_ends_the_bar_and_goes_on(screen: Screen) -> None:
    def broken() -> None:
        with progress("measure", clock=Clock()) as on_progress:
            on_progress(0.5, "half")
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert screen.handles[0][-1] == "measure: stopped by KeyError in 0 s"


def test_without_a_front_end_the_last_line_alone(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    clock = Clock()
    with progress("measure", clock=clock) as on_progress:
        work(on_progress, clock)
    assert screen.handles == [["measure: done in 4 s"]]


def test_outside_a_notebook_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress("measure", clock=clock) as on_progress:
        work(on_progress, clock)
    assert capsys.readouterr() == ("", "")


def test_texts_are_escaped_and_the_bar_is_labelled() -> None:
    html = module._bar('<b>"', 0.5, "<i>", 1.0)._repr_html_()
    assert 'aria-label="&lt;b&gt;&quot;"' in html
    assert "<i>" not in html
