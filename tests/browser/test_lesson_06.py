"""Lesson 06 as a learner runs it: a bet, stages started from the kernel, their timeline drawn, the explorer moved."""

from __future__ import annotations

from typing import Any

import pytest

from .steps import bet_then_run, move_slider, opened

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]


def test_the_lesson_runs_to_its_end_and_its_explorer_moves(browser_page: Any) -> None:
    page, path = browser_page.page, browser_page.work / "notebooks" / "06_pipeline_parallel.ipynb"
    page.goto(browser_page.url.replace("00_start_here", "06_pipeline_parallel"))
    opened(page)

    bet_then_run(browser_page, path, bet_cell="bubble_guess = widgets.predict", name="lesson-06", deadline_s=300)
    move_slider(browser_page, name="lesson-06")
    assert browser_page.errors == []
