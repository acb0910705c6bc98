"""Lesson 00 as a learner runs it: the real front end, first cell to last, a slider moved, the timeline played."""

from __future__ import annotations

from typing import Any

import pytest

from .steps import menu, opened, scroll_to, wait_until_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_the_lesson_runs_to_its_end_and_its_widgets_work(browser_page: Any) -> None:
    page, path = browser_page.page, browser_page.work / "notebooks" / "00_start_here.ipynb"
    opened(page)
    browser_page.screenshot("lesson-00-start")

    # As a learner: run to the first prediction, bet, then run the rest.
    cell = scroll_to(page, ".jp-CodeCell:has-text('compute_guess = widgets.predict')")
    cell.locator(".cm-content").click()
    menu(page, "Run", "Run All Above Selected Cell")
    page.keyboard.press("Control+Enter")
    bet = page.locator(".labkit-predict button").first
    bet.wait_for(timeout=60_000)
    bet.click()
    page.get_by_text("Your bet is recorded").first.wait_for(timeout=10_000)
    browser_page.screenshot("lesson-00-predict")
    cell.locator(".cm-content").click()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    menu(page, "Run", "Run Selected Cell and All Below")
    cells = wait_until_run(page, path)
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert errors == []
    browser_page.screenshot("lesson-00-end")

    slider = scroll_to(page, ".labkit-panel [role=slider], .labkit-panel input[type=range]")
    before = slider.input_value()
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(800)
    assert slider.input_value() != before
    browser_page.screenshot("lesson-00-panel")

    play = scroll_to(page, ".labkit-timeline button")
    scrub = page.locator(".labkit-timeline input[type=range]").first
    start = float(scrub.input_value())
    play.click()
    page.wait_for_timeout(1500)
    assert float(scrub.input_value()) > start
    browser_page.screenshot("lesson-00-timeline")
    assert browser_page.errors == []
