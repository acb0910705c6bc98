"""Every test has a lab home of its own, so that no test sees or touches the learner's records."""

from __future__ import annotations

import os
import tempfile
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
