"""Every launch test has a mark in its environment, which whatever it starts inherits, and must leave nothing marked."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from labkit.launch import forked


class Marked:
    """The processes that came of this test, wherever they hid: the mark is in their environment."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    def living(self) -> list[psutil.Process]:
        idle = {os.getpid(), *([forked._server.pid] if forked._server else [])}  # it stays for the next launch
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get("LABKIT_TEST_MARK") == self.mark
                if marked and process.pid not in idle and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def sleepers(self) -> list[psutil.Process]:
        """Those that a rank started: ``sleep 1000``."""
        found = []
        for process in self.living():
            try:
                if "1000" in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait(self, condition: Callable[[], object], seconds: float = 20) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return True
            time.sleep(0.02)
        return False

    def gone_within(self, seconds: float) -> bool:
        return self.wait(lambda: not self.living(), seconds)


@pytest.fixture(autouse=True)
def marked(lab_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marked]:
    marked = Marked()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("LABKIT_TEST_MARK", marked.mark)
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    forked.end_fork_server()  # the test's own has the mark, and so have its ranks
    yield marked
    forked.end_fork_server()
    assert marked.gone_within(5), [process.cmdline() for process in marked.living()]
    assert list(scratch.glob("labkit-*")) == []
    assert list((lab_home / "processes").glob("*")) == []
