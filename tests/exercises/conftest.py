"""A small lab of its own for every test: the sample solution with what is generated from it, free to be edited."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLE = Path(__file__).resolve().parents[1] / "fixtures" / "exercises"
Fill = Callable[..., Path]

BUBBLE = "def bubble(stages, micro_batches):\n    return (stages - 1) / (micro_batches + stages - 1)"
MEAN = "def mean_over_ranks(shards):\n    return sum(s.sum() for s in shards) / sum(len(s) for s in shards)"
BATCH = "batch = 150"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A checkout with solutions/, exercises/ and a learner's work/exercises/00_sample.ipynb."""
    shutil.copytree(SAMPLE, tmp_path / "lab")
    work = tmp_path / "lab" / "work" / "exercises"
    work.mkdir(parents=True)
    shutil.copy(SAMPLE / "exercises" / "00_sample.ipynb", work)
    return tmp_path / "lab"


@pytest.fixture
def fill(lab: Path) -> Fill:
    """``fill(bubble="…")`` writes a learner's cells, solved where nothing is said, and gives the work copy's path."""

    def write(bubble: str = BUBBLE, mean: str = MEAN, batch: str = BATCH) -> Path:
        path = lab / "work" / "exercises" / "00_sample.ipynb"
        sources = {"task-bubble": bubble, "task-mean": mean, "task-batch": batch}
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            if cell["id"] in sources:
                cell["source"] = sources[cell["id"]].splitlines(True)
        path.write_text(json.dumps(notebook))
        return path

    return write


def edit(path: Path, cell_id: str, old: str, new: str) -> None:
    """Replace text in one cell of a notebook file."""
    notebook = json.loads(path.read_text())
    cell = next(cell for cell in notebook["cells"] if cell["id"] == cell_id)
    source = "".join(cell["source"])
    assert old in source
    cell["source"] = source.replace(old, new).splitlines(True)
    path.write_text(json.dumps(notebook))
