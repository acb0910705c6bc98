"""A store's publications, and what it says of damage, of a full disk, of two writers and of the wrong model."""

from __future__ import annotations

import errno
import json
import random
import threading
from pathlib import Path

import pytest

from labkit.checkpoint import Store, damage, examine
from labkit.checkpoint.folders import RealFolderSystem
from labkit.checkpoint.manifest import FORMAT, MANIFEST, Manifest
from labkit.errors import ConflictError, DataError, NoSpaceError, UsageError


def store(folder: Path, **options) -> Store:
    return Store(folder / "store", model="m", clock=lambda: 7.0, **options)


def state(step: int):
    def write(staged: Path) -> None:
        (staged / "state").write_bytes(random.Random(step).randbytes(1000))
        (staged / "more").write_bytes(b"%d" % step)

    return write


def filled(folder: Path, *steps: int, **options) -> Store:
    made = store(folder, **options)
    for step in steps:
        made.publish(step, state(step))
    return made


def test_what_was_published_is_the_latest_and_is_what_was_written(tmp_path: Path) -> None:
    made = filled(tmp_path, 1, 2)
    newest = made.latest()
    assert newest is not None
    assert (newest.step, newest.num_bytes, newest.manifest.created_at) == (2, 1001, 7.0)
    assert newest.path("state").read_bytes() == random.Random(2).randbytes(1000)
    assert store(tmp_path).load(1).id != newest.id


def test_an_empty_store_has_none(tmp_path: Path) -> None:
    assert store(tmp_path).latest() is None
    with pytest.raises(DataError, match="no checkpoint of step 3; there are: none"):
        store(tmp_path).load(3)


def test_retention_keeps_the_newest(tmp_path: Path) -> None:
    made = filled(tmp_path, 1, 2, 3, 4, keep=2)
    assert made.steps() == [3, 4]
    assert sorted(path.name for path in made.root.iterdir() if path.name != ".writer") == [
        "step-0000000003",
        "step-0000000004",
    ]


def test_every_bit_counts(tmp_path: Path) -> None:
    made = filled(tmp_path, 1, 2)
    for name in ("state", "more", MANIFEST):
        path = made.folder(2) / name
        whole = path.read_bytes()
        for byte in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 4]) + whole[byte + 1 :])
            assert damage(made.folder(2)), f"{name}, byte {byte}"
            newest = made.latest()
            assert newest is not None
            assert newest.step == 1
        path.write_bytes(whole)
    assert damage(made.folder(2)) is None


def test_truncated_or_gone_is_named(tmp_path: Path) -> None:
    made = filled(tmp_path, 1)
    path = made.folder(1) / "state"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"state has 999 bytes, was committed with 1,000: it is torn"):
        examine(made.folder(1))
    path.unlink()
    with pytest.raises(DataError, match="state cannot be read"):
        examine(made.folder(1))
    (made.folder(1) / MANIFEST).unlink()
    with pytest.raises(DataError, match="never committed"):
        examine(made.folder(1))
    assert made.latest() is None


def test_training_that_comes_past_a_damaged_step_replaces_it(tmp_path: Path) -> None:
    made = filled(tmp_path, 1, 2)
    (made.folder(2) / "state").write_bytes(b"torn")
    made.publish(2, state(2))
    assert damage(made.folder(2)) is None


def test_another_model_and_a_newer_format_are_said_and_not_passed_over(tmp_path: Path) -> None:
    made = filled(tmp_path, 1)
    with pytest.raises(UsageError, match="belongs to the model 'm'; got a store for 'other'"):
        Store(made.root, model="other").latest()
    path = made.folder(1) / MANIFEST
    body = {key: value for key, value in json.loads(path.read_bytes()).items() if key not in ("digest", "files")}
    path.write_bytes(Manifest(**{**body, "files": {}, "format": FORMAT + 1}).to_bytes())
    with pytest.raises(UsageError, match=f"has format {FORMAT + 1}; this labkit reads up to {FORMAT}. Update labkit"):
        made.latest()


class Refusing(RealFolderSystem):
    """Refuses one operation by the system's own error."""

    def __init__(self, operation: str, number: int) -> None:
        self.operation, self.number = operation, number

    def _maybe(self, operation: str) -> None:
        if operation == self.operation:
            raise OSError(self.number, "refused")

    def sync(self, path: Path) -> None:
        self._maybe("sync")
        super().sync(path)

    def write(self, path: Path, data: bytes) -> None:
        self._maybe("write")
        super().write(path, data)

    def make_folder(self, folder: Path) -> None:
        self._maybe("make_folder")
        super().make_folder(folder)

    def rename(self, source: Path, target: Path) -> None:
        self._maybe("rename")
        super().rename(source, target)


@pytest.mark.parametrize("operation", ["make_folder", "write", "sync", "rename"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, operation: str) -> None:
    made = filled(tmp_path, 1)
    made.fs = Refusing(operation, errno.ENOSPC)
    with pytest.raises(NoSpaceError, match="those published before are whole"):
        made.publish(2, state(2))
    assert made.steps() == [1]
    assert not [path for path in made.root.iterdir() if path.name.startswith(".staged")]


def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        store(tmp_path, fs=Refusing("make_folder", errno.EROFS))
    made = filled(tmp_path, 1)
    made.fs = Refusing("make_folder", errno.EACCES)
    with pytest.raises(UsageError, match="Name a folder that this user may write"):
        made.publish(2, state(2))
    assert made.steps() == [1]


def test_two_writers_at_once(tmp_path: Path) -> None:
    first, second = store(tmp_path), store(tmp_path)
    inside, go = threading.Event(), threading.Event()

    def slow(staged: Path) -> None:
        state(1)(staged)
        inside.set()
        go.wait(10)

    thread = threading.Thread(target=first.publish, args=(1, slow))
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(ConflictError, match="Another process writes"):
            second.publish(2, state(2))
    finally:
        go.set()
        thread.join()
    assert first.steps() == [1]
    with pytest.raises(ConflictError, match="is there already"):
        second.publish(1, state(1))


def test_what_a_crash_left_is_swept_by_the_next_writer(tmp_path: Path) -> None:
    made = filled(tmp_path, 1)
    for name in (".staged-9-1-1", ".pruned-0-x"):
        (made.root / name).mkdir()
        (made.root / name / "half").write_bytes(b"half")
    made.publish(2, state(2))
    assert sorted(p.name for p in made.root.iterdir() if p.is_dir()) == ["step-0000000001", "step-0000000002"]


def test_a_rollback_sets_aside_what_is_behind(tmp_path: Path) -> None:
    made = filled(tmp_path, 1, 2, 3)
    assert made.rollback(1) == [3, 2]
    assert made.steps() == [1]
    assert len([p for p in made.root.iterdir() if p.name.startswith(".aside")]) == 2
    made.publish(2, state(5))
    with pytest.raises(DataError, match="no checkpoint of step 9"):
        made.rollback(9)


@pytest.mark.parametrize("keep", [0, -1])
def test_nothing_kept_is_refused(tmp_path: Path, keep: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        store(tmp_path, keep=keep)


def test_a_negative_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 0; got -1"):
        store(tmp_path).publish(-1, state(0))
