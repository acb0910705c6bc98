"""A learner sees the solution beside their own after passing, or when they ask; a work copy is never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import exercises
from labkit.errors import NotebookError, UsageError


def test_it_is_refused_until_everything_passes(fill) -> None:
    path = fill(batch="batch = 3")
    with pytest.raises(UsageError, match=r"00/batch.*--show"):
        exercises.diff(path)
    assert "300e12" in exercises.diff(path, asked=True)


def test_after_passing_it_shows_sources_and_explanations_alone(fill) -> None:
    path = fill()
    before = path.read_bytes()
    told = exercises.diff(path)
    assert ">     return sum(shard.sum() for shard in shards)" in told
    assert "Sums and counts add over ranks" in told
    assert "BEGIN SOLUTION" not in told
    assert "average of averages" not in told
    assert "image/png" not in told
    assert "\x1b[" not in told
    assert path.read_bytes() == before


def test_a_solution_has_nothing_to_be_compared_with_but_itself(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(NotebookError):
        exercises.diff(tmp_path / "none.ipynb")
