"""Lesson 05 as a learner runs it: a bet, ranks started from the kernel, links throttled, the panel moved."""

from __future__ import annotations

from typing import Any

import pytest

from .steps import bet_then_run, move_slider, opened

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]


def test_the_lesson_runs_to_its_end_and_its_panel_moves(browser_page: Any) -> None:
    page, path = browser_page.page, browser_page.work / "notebooks" / "05_tensor_parallel.ipynb"
    page.goto(browser_page.url.replace("00_start_here", "05_tensor_parallel"))
    opened(page)

    bet_then_run(browser_page, path, bet_cell="inside_guess = widgets.predict", name="lesson-05", deadline_s=300)
    move_slider(browser_page, name="lesson-05")
    assert browser_page.errors == []
