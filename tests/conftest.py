"""Every test has a lab home of its own, so that no test sees or touches the learner's records.

Two workers share the suite; a test that is marked ``alone`` needs both cores, and waits until the other worker rests.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from labkit.launch import thread_waiting

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """The model is converted once for all tests and kept for the next run; its checksums are looked at each time."""
    models = Path(tempfile.gettempdir()) / "labkit-test-models"
    models.mkdir(exist_ok=True)
    os.environ["LABKIT_MODELS"] = str(models)
    os.environ.update(thread_waiting())  # before torch is loaded, as for every kernel that labkit starts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: with two workers, each takes the next file, and the last one should be short."""
    items.sort(key=lambda item: item.path.parent.name != "notebooks")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A read lock around each test, a write lock around one that is alone; its timeout counts from then on."""
    with open(__file__) as turn:
        fcntl.flock(turn, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)  # not by closing: what the test forked has it open as well


@pytest.fixture(autouse=True)
def lab_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("lab")
    monkeypatch.setenv("LABKIT_HOME", str(home))
    monkeypatch.setenv("MPLBACKEND", "agg")
    return home


@pytest.fixture
def smollm2(lab_home: Path) -> Path:
    """The real model's folder."""
    from labkit import models

    return models.smollm2()


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def reference() -> Path:
    """The public data of datasets/README.md, which the project does not ship."""
    folder = ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("the public reference data is not on this machine (see datasets/README.md)")
    return folder
