"""Lesson 04 as a learner runs it: a bet, four ranks and fake worlds started from the kernel, the memory bar moved."""

from __future__ import annotations

from typing import Any

import pytest

from .steps import bet_then_run, move_slider, opened

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]


def test_the_lesson_runs_to_its_end_and_its_memory_bar_moves(browser_page: Any) -> None:
    page, path = browser_page.page, browser_page.work / "notebooks" / "04_sharding_the_state.ipynb"
    page.goto(browser_page.url.replace("00_start_here", "04_sharding_the_state"))
    opened(page)

    bet_then_run(browser_page, path, bet_cell="peak_guess = widgets.predict", name="lesson-04", deadline_s=300)
    move_slider(browser_page, name="lesson-04")
    assert browser_page.errors == []
