"""Lesson 12 as a learner runs it: a bet, the real vLLM behind it, the slots drawn, a slider and the timeline moved."""

from __future__ import annotations

from typing import Any

import pytest

from .steps import menu, opened, scroll_to, wait_until_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]


def test_the_lesson_runs_to_its_end_and_its_widgets_work(browser_page: Any) -> None:
    page, path = browser_page.page, browser_page.work / "notebooks" / "12_continuous_batching.ipynb"
    page.goto(browser_page.url.replace("00_start_here", "12_continuous_batching"))
    opened(page)
    browser_page.screenshot("lesson-12-start")

    cell = scroll_to(page, ".jp-CodeCell:has-text('step_guess = widgets.predict')")
    cell.locator(".cm-content").click()
    menu(page, "Run", "Run All Above Selected Cell")
    page.keyboard.press("Control+Enter")
    bet = page.locator(".labkit-predict button").first
    bet.wait_for(timeout=60_000)
    bet.click()
    page.get_by_text("Your bet is recorded").first.wait_for(timeout=10_000)
    cell.locator(".cm-content").click()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    menu(page, "Run", "Run Selected Cell and All Below")
    cells = wait_until_run(page, path, deadline_s=300)
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert errors == []
    browser_page.screenshot("lesson-12-end")

    slider = scroll_to(page, ".labkit-panel [role=slider], .labkit-panel input[type=range]")
    before = slider.input_value()
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(800)
    assert slider.input_value() != before
    browser_page.screenshot("lesson-12-panel")

    play = scroll_to(page, ".labkit-timeline button")
    scrub = page.locator(".labkit-timeline input[type=range]").first
    start = float(scrub.input_value())
    play.click()
    page.wait_for_timeout(1500)
    assert float(scrub.input_value()) > start
    browser_page.screenshot("lesson-12-timeline")
    assert browser_page.errors == []
