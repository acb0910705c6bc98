"""A real JupyterLab, started as a learner starts it, and a real Chromium that drives it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium's own background traffic has nothing to do with the page and fails on a machine without a network.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
SCREENSHOTS = ROOT / "build" / "screenshots"
# What JupyterLab and Chromium say of themselves, whatever the notebook does.
EXPECTED_CONSOLE = re.compile(r"favicon|ResizeObserver loop|source map|Canvas2D: Multiple readback")


@dataclass
class Page:
    """One browser page with the errors that its console showed."""

    page: Any
    work: Path
    url: str
    errors: list[str] = field(default_factory=list)

    def screenshot(self, name: str, locator: Any = None) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (locator or self.page).screenshot(path=str(SCREENSHOTS / f"{name}.png"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The learner's folder, work copies laid, lessons set to their quick profile as a learner could set them."""
    folder = tmp_path / "work"
    subprocess.run([sys.executable, "-m", "labkit", "start", "--root", str(ROOT), "--work", str(folder)], check=True)
    for lesson in (folder / "notebooks").glob("*.ipynb"):
        text = lesson.read_text()
        assert 'profile = \\"full\\"' in text
        lesson.write_text(text.replace('profile = \\"full\\"', 'profile = \\"quick\\"'))
    return folder


@pytest.fixture
def lab_url(work: Path, lab_home: Path) -> Iterator[str]:
    """The URL that `labkit lab` prints; the server is ended as a learner ends it, by Ctrl-C."""
    command = [sys.executable, "-m", "labkit", "lab", "--no-browser", "--root", str(ROOT), "--work", str(work)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    lab = subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"}, start_new_session=True, **pipes)
    seen = []
    try:
        for line in lab.stdout:
            seen.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\S+", line):
                yield found.group(0)
                break
        else:
            pytest.fail("labkit lab printed no URL:\n" + "".join(seen))
    finally:
        lab.send_signal(signal.SIGINT)
        lab.communicate(timeout=30)
    assert lab.returncode == 0


@pytest.fixture
def browser_page(lab_url: str, work: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing, and browser tests may not skip in CI")
        pytest.skip("Chromium is not installed; browser tests need it (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        opened = Page(page, work, lab_url)

        def on_console(message: Any) -> None:
            if message.type == "error" and not EXPECTED_CONSOLE.search(message.text):
                opened.errors.append(message.text)

        page.on("console", on_console)
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.goto(lab_url)
        yield opened
        browser.close()
