"""Lesson 00 as a learner runs it: the real front end, first cell to last, a slider moved, the timeline played."""

from __future__ import annotations

from typing import Any

import pytest

from .steps import bet_then_run, move_widgets, opened

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_the_lesson_runs_to_its_end_and_its_widgets_work(browser_page: Any) -> None:
    page, path = browser_page.page, browser_page.work / "notebooks" / "00_start_here.ipynb"
    opened(page)
    browser_page.screenshot("lesson-00-start")

    bet_then_run(browser_page, path, bet_cell="compute_guess = widgets.predict", name="lesson-00")
    move_widgets(browser_page, name="lesson-00")
    assert browser_page.errors == []
