"""What a learner does in JupyterLab: open, choose from a menu, save, run to the end, scroll."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

__all__ = ["bet_then_run", "menu", "move_slider", "move_widgets", "opened", "saved", "scroll_to", "wait_until_run"]


def opened(page: Any) -> None:
    """Until the notebook is there and its kernel idle; a command sent before is dropped without a word."""
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    page.get_by_text("| Idle").first.wait_for(timeout=60_000)
    page.wait_for_timeout(2000)


def menu(page: Any, *names: str) -> None:
    for name in names:
        page.get_by_role("menuitem", name=name, exact=True).click()


def saved(page: Any, path: Path) -> dict[str, Any]:
    """The notebook as JupyterLab saves it. The file may be read while it is being written: then it is read again."""
    before = path.stat().st_mtime_ns
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    until = time.monotonic() + 20
    while time.monotonic() < until:
        page.wait_for_timeout(100)
        if path.stat().st_mtime_ns == before and time.monotonic() < until - 15:
            continue  # five seconds for a new version; after that what is there is the newest
        with contextlib.suppress(json.JSONDecodeError):
            notebook: dict[str, Any] = json.loads(path.read_text())
            return notebook
    pytest.fail(f"{path} could not be read as JSON for 20 s")


def wait_until_run(page: Any, path: Path, deadline_s: float = 150) -> list[dict[str, Any]]:
    """Until every code cell has an execution count; its code cells."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        page.wait_for_timeout(2000)
        if page.get_by_text("| Idle").count():
            cells = [cell for cell in saved(page, path)["cells"] if cell["cell_type"] == "code"]
            failed = [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]
            if failed or all(cell["execution_count"] for cell in cells):
                return cells
    pytest.fail(f"the lesson did not end within {deadline_s} s")


def scroll_to(page: Any, selector: str) -> Any:
    """The first element that matches, brought into view (JupyterLab attaches outputs only near the viewport)."""
    notebook = page.locator(".jp-WindowedPanel-outer").first
    notebook.evaluate("node => node.scrollTo(0, 0)")
    for _ in range(80):
        found = page.locator(selector)
        if found.count():
            found.first.scroll_into_view_if_needed()
            page.wait_for_timeout(200)
            return found.first
        notebook.evaluate("node => node.scrollBy(0, 500)")
        page.wait_for_timeout(100)
    pytest.fail(f"nothing on the page matches {selector}")


def bet_then_run(browser_page: Any, path: Path, *, bet_cell: str, name: str, deadline_s: float = 150) -> None:
    """As a learner: run to the first prediction, bet, then run the rest, without an error in any cell."""
    page = browser_page.page
    cell = scroll_to(page, f".jp-CodeCell:has-text('{bet_cell}')")
    cell.locator(".cm-content").click()
    menu(page, "Run", "Run All Above Selected Cell")
    page.keyboard.press("Control+Enter")
    bet = page.locator(".labkit-predict button").first
    bet.wait_for(timeout=60_000)
    bet.click()
    page.get_by_text("Your bet is recorded").first.wait_for(timeout=10_000)
    browser_page.screenshot(f"{name}-predict")
    cell.locator(".cm-content").click()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    menu(page, "Run", "Run Selected Cell and All Below")
    cells = wait_until_run(page, path, deadline_s)
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert errors == []
    browser_page.screenshot(f"{name}-end")


def move_slider(browser_page: Any, *, name: str) -> None:
    """A panel's slider by keyboard."""
    page = browser_page.page
    slider = scroll_to(page, ".labkit-panel [role=slider], .labkit-panel input[type=range]")
    before = slider.input_value()
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(800)
    assert slider.input_value() != before
    browser_page.screenshot(f"{name}-panel")


def move_widgets(browser_page: Any, *, name: str) -> None:
    """A panel's slider by keyboard, and the timeline by its button."""
    move_slider(browser_page, name=name)
    page = browser_page.page
    play = scroll_to(page, ".labkit-timeline button")
    scrub = page.locator(".labkit-timeline input[type=range]").first
    start = float(scrub.input_value())
    play.click()
    page.wait_for_timeout(1500)
    assert float(scrub.input_value()) > start
    browser_page.screenshot(f"{name}-timeline")
