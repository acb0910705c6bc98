"""Every test has a lab home of its own, so that no test sees or touches the learner's records."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def lab_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("lab")
    monkeypatch.setenv("LABKIT_HOME", str(home))
    monkeypatch.setenv("MPLBACKEND", "agg")
    return home


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
