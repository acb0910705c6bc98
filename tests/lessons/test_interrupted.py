"""A start that dies anywhere, and any history of edits: repeating it is safe and no learner's line is ever lost."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import lessons
from labkit.records import REAL


class Killed(BaseException):
    """As if by SIGKILL: nothing after it runs, no matter what is caught."""


class DyingFileSystem:
    """The real one, until a number of operations have been done; torn: the last write gets half of its data."""

    def __init__(self, operations: int) -> None:
        self.left = operations

    def _step(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def write(self, path: Path, data: bytes) -> None:
        if self.left == 0:
            path.write_bytes(data[: len(data) // 2])
        self._step()
        REAL.write(path, data)

    def sync(self, path: Path) -> None:
        self._step()
        REAL.sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        REAL.rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._step()
        REAL.sync_folder(folder)

    def remove(self, path: Path) -> None:
        self._step()
        REAL.remove(path)


def outcome(lab: Any) -> dict[str, Any]:
    """Everything that the learner sees, and what later updates will build on."""
    files = {path.name: path.read_bytes() for path in (lab.work / "notebooks").glob("[!.]*.ipynb")}
    base = {str(path.relative_to(lab.work)): path.read_bytes() for path in (lab.work / ".base").rglob("[!.]*.*")}
    return {"files": files, "base": base}


def dies_everywhere(lab: Any) -> int:
    """Kill a start at each of its operations, repeat it, and compare with one that was not interrupted."""
    shutil.copytree(lab.work, lab.root / "before", dirs_exist_ok=True) if lab.work.exists() else None
    before = lab.root / "before"
    lessons.start(lab.root, lab.work)
    wanted = outcome(lab)
    operations = 0
    while True:
        shutil.rmtree(lab.work)
        if before.exists():
            shutil.copytree(before, lab.work)
        mine = lab.copy.read_bytes() if lab.copy.exists() else b""
        try:
            lessons.start(lab.root, lab.work, fs=DyingFileSystem(operations))
        except Killed:
            there = lab.copy.read_bytes() if lab.copy.exists() else b""
            assert there in (mine, wanted["files"].get(lab.copy.name, b""))  # old or new, never torn
            lessons.start(lab.root, lab.work)
            assert outcome(lab) == wanted
            operations += 1
            continue
        assert outcome(lab) == wanted
        shutil.rmtree(before, ignore_errors=True)
        return operations


def test_killed_while_laying(lab: Any) -> None:
    assert dies_everywhere(lab) == 12  # version, copy, state: write, sync, rename, sync of the folder


def test_killed_while_updating_a_copy_that_was_run(lab: Any) -> None:
    lessons.start(lab.root, lab.work)
    lab.run()
    lab.publish(b="print(x, y)")
    assert dies_everywhere(lab) == 16  # the copy with the lost output is kept as well


def test_killed_while_merging(lab: Any) -> None:
    lessons.start(lab.root, lab.work)
    lab.edit(a="x = 10\ny = 2\nz = 3", mine="own = 1")
    lab.publish(a="x = 1\ny = 2\nz = 30", new="n = 1")
    assert dies_everywhere(lab) == 16


def test_killed_in_a_conflict(lab: Any) -> None:
    lessons.start(lab.root, lab.work)
    lab.edit(b="mine")
    lab.publish(b="theirs")
    assert dies_everywhere(lab) == 12


def test_killed_in_a_merge_after_a_settled_conflict_and_then_updated_again(lab: Any) -> None:
    lessons.start(lab.root, lab.work)
    lab.edit(b="mine")
    lab.publish(b="theirs")
    lessons.start(lab.root, lab.work)
    lab.new.unlink()
    lab.publish(c="c = 7")
    assert dies_everywhere(lab) > 0
    shutil.copytree(lab.work, lab.root / "settled")
    lab.publish(a="x = 7")
    lessons.start(lab.root, lab.work)
    assert (lab.sources()["b"], lab.sources()["c"], lab.sources()["a"]) == ("mine", "c = 7", "x = 7")


def test_killed_between_a_merge_and_its_note_then_the_lesson_moves_on(lab: Any) -> None:
    lessons.start(lab.root, lab.work)
    lab.edit(b="mine")
    lab.publish(b="theirs")
    lessons.start(lab.root, lab.work)
    lab.new.unlink()  # settled
    lab.publish(c="c = 7")
    with pytest.raises(Killed):
        lessons.start(lab.root, lab.work, fs=DyingFileSystem(8))
    # merged already; the state still tells of the offer
    assert (lab.sources()["b"], lab.sources()["c"]) == ("mine", "c = 7")
    lab.publish(c="c = 8")
    assert lessons.start(lab.root, lab.work).merged == (lab.copy,)
    assert (lab.sources()["b"], lab.sources()["c"]) == ("mine", "c = 8")


class LearnerSaves(DyingFileSystem):
    """While the lab writes its first file, the learner saves."""

    def __init__(self, lab: Any) -> None:
        super().__init__(-1)
        self.lab, self.saved = lab, False

    def write(self, path: Path, data: bytes) -> None:
        if not self.saved:
            self.saved = True
            self.lab.edit(a="saved just now")
        REAL.write(path, data)


def test_a_save_while_the_lab_updates_is_not_overwritten(lab: Any) -> None:
    lessons.start(lab.root, lab.work)
    lab.publish(b="print(x, y)")
    assert lessons.start(lab.root, lab.work, fs=LearnerSaves(lab)).merged == (lab.copy,)
    assert (lab.sources()["a"], lab.sources()["b"]) == ("saved just now", "print(x, y)")


NAMES = ("m", "a", "b", "c", "own", "own2")
SOURCES = ("", "1\n2\n3\n4\n5", "1\n2\n3\n4\nE", "A\n2\n3\n4\n5", "A\n2\nC\n4\n5", "Z")
CHANGES = st.dictionaries(st.sampled_from(NAMES[:4]), st.sampled_from(SOURCES), max_size=3)
OWN = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(SOURCES), max_size=3)
HISTORY = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), CHANGES),
        st.tuples(st.just("edit"), OWN),
        st.tuples(st.just("run"), st.just({})),
        st.tuples(st.just("settle"), st.just({})),
        st.tuples(st.just("killed"), st.integers(0, 20)),
    ),
    max_size=8,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=HISTORY)
def test_any_history_converges_and_loses_nothing(new_checkout: Any, history: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = new_checkout(Path(folder))
        lessons.start(lab.root, lab.work)
        for action, argument in history:
            if action == "publish":
                lab.publish(**{"keep": "always = 1", **argument})
            elif action == "edit":
                lab.edit(**argument)
            elif action == "run":
                lab.run()
            elif action == "settle":
                lab.new.unlink(missing_ok=True)
            else:
                try:
                    lessons.start(lab.root, lab.work, fs=DyingFileSystem(argument))
                except Killed:
                    continue
            check_start(lab)


def check_start(lab: Any) -> None:
    written = lab.copy.read_bytes()
    before = lab.sources()
    report = lessons.start(lab.root, lab.work)
    if report.conflicts:
        assert lab.copy.read_bytes() == written
        assert lab.sources(report.conflicts[0].beside) == lab.cells
    settled = outcome(lab)
    again = lessons.start(lab.root, lab.work)
    assert outcome(lab) == settled  # a second start changes nothing
    assert (again.laid, again.updated, again.merged) == ((), (), ())
    kept = [lab.sources(path) for path in (lab.work / ".base").rglob("[!.]*.ipynb")]
    for source in before.values():  # each of the learner's cells is in the copy, in a version, or in a kept copy
        assert any(source in there.values() for there in (lab.sources(), *kept))
