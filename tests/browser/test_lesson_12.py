"""Lesson 12 as a learner runs it: a bet, the real vLLM behind it, the slots drawn, a slider and the timeline moved."""

from __future__ import annotations

from typing import Any

import pytest

from .steps import bet_then_run, move_widgets, opened

pytestmark = [pytest.mark.alone, pytest.mark.browser, pytest.mark.timeout(540)]


def test_the_lesson_runs_to_its_end_and_its_widgets_work(browser_page: Any) -> None:
    page, path = browser_page.page, browser_page.work / "notebooks" / "12_continuous_batching.ipynb"
    page.goto(browser_page.url.replace("00_start_here", "12_continuous_batching"))
    opened(page)
    browser_page.screenshot("lesson-12-start")

    bet_then_run(browser_page, path, bet_cell="step_guess = widgets.predict", name="lesson-12", deadline_s=400)
    move_widgets(browser_page, name="lesson-12")
    assert browser_page.errors == []
