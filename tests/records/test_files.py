"""write_durably against every crash: SIGKILL keeps the page cache and proves nothing, so the disk is modelled."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from labkit.errors import NoSpaceError
from labkit.records import REAL, write_durably
from labkit.records.files import RealFileSystem

TARGET = Path("/folder/file")
OLD, NEW = b"old content", b"new content, longer"


class RecordingFileSystem:
    """Notes the operations, does nothing."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []

    def write(self, path: Path, data: bytes) -> None:
        self.log.append(("write", path, data))

    def sync(self, path: Path) -> None:
        self.log.append(("sync", path))

    def rename(self, source: Path, target: Path) -> None:
        self.log.append(("rename", source, target))

    def sync_folder(self, folder: Path) -> None:
        self.log.append(("sync_folder", folder))

    def remove(self, path: Path) -> None:
        self.log.append(("remove", path))


def after_a_crash(log: list[tuple[object, ...]], before: dict[Path, bytes]) -> list[bytes | None]:
    """What the target may hold after a crash behind ``log``, on a disk that keeps only what was synced.

    Unsynced data may be there whole, in part or not at all; an unsynced rename may have happened or not, and may reach
    the disk before the data of the file that it names.
    """
    names: dict[Path, object] = {path: path for path in before}  # the name on disk -> a file
    data: dict[object, bytes] = dict(before)
    synced: dict[object, bool] = dict.fromkeys(before, True)
    pending: list[tuple[Path, Path]] = []
    for operation in log:
        match operation:
            case ("write", Path() as path, bytes() as content):
                names[path], data[path], synced[path] = path, content, False
            case ("sync", Path() as path):
                synced[path] = True
            case ("rename", Path() as source, Path() as target):
                pending.append((source, target))
            case ("sync_folder", _):
                for source, target in pending:
                    names[target] = names.pop(source)
                pending.clear()
    outcomes: list[bytes | None] = []
    for renamed in (False, True):
        final = dict(names)
        if renamed:
            for source, target in pending:
                final[target] = final.pop(source)
        file = final.get(TARGET)
        if file is None:
            outcomes.append(None)
        elif synced[file]:
            outcomes.append(data[file])
        else:
            outcomes += [b"", data[file][: len(data[file]) // 2], data[file]]
    return outcomes


def every_crash(write) -> list[bytes | None]:
    fs = RecordingFileSystem()
    write(fs)
    return [out for end in range(len(fs.log) + 1) for out in after_a_crash(fs.log[:end], {TARGET: OLD})]


def test_after_any_crash_the_old_or_the_new_content_is_there() -> None:
    outcomes = every_crash(lambda fs: write_durably(TARGET, NEW, fs=fs))
    assert set(outcomes) == {OLD, NEW}


def test_when_it_returned_the_new_content_is_there() -> None:
    fs = RecordingFileSystem()
    write_durably(TARGET, NEW, fs=fs)
    assert set(after_a_crash(fs.log, {TARGET: OLD})) == {NEW}


def planted_no_sync(fs: RecordingFileSystem) -> None:
    fs.write(Path("/folder/new"), NEW)
    fs.rename(Path("/folder/new"), TARGET)
    fs.sync_folder(Path("/folder"))


def planted_sync_after_rename(fs: RecordingFileSystem) -> None:
    fs.write(Path("/folder/new"), NEW)
    fs.rename(Path("/folder/new"), TARGET)
    fs.sync(Path("/folder/new"))
    fs.sync_folder(Path("/folder"))


def planted_in_place(fs: RecordingFileSystem) -> None:
    fs.write(TARGET, NEW)
    fs.sync(TARGET)


def test_returning_before_the_folder_is_synced_is_caught() -> None:
    fs = RecordingFileSystem()
    fs.write(Path("/folder/new"), NEW)
    fs.sync(Path("/folder/new"))
    fs.rename(Path("/folder/new"), TARGET)
    assert OLD in after_a_crash(fs.log, {TARGET: OLD})


@pytest.mark.parametrize("planted", [planted_no_sync, planted_sync_after_rename, planted_in_place])
def test_planted_wrong_ways_are_caught(planted) -> None:
    assert set(every_crash(planted)) - {OLD, NEW}


def test_for_real(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_durably(target, OLD)
    write_durably(target, NEW)
    assert target.read_bytes() == NEW
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_is_interrupted_leaves_the_old_content_and_no_scratch(tmp_path: Path) -> None:
    class Interrupted(RealFileSystem):
        def rename(self, source: Path, target: Path) -> None:
            raise KeyboardInterrupt

    target = tmp_path / "file"
    write_durably(target, OLD)
    with pytest.raises(KeyboardInterrupt):
        write_durably(target, NEW, fs=Interrupted())
    assert target.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_content_and_no_scratch(tmp_path: Path) -> None:
    class Full(RealFileSystem):
        def sync(self, path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "file"
    write_durably(target, OLD, fs=REAL)
    with pytest.raises(NoSpaceError, match="what was there is unchanged"):
        write_durably(target, NEW, fs=Full())
    assert target.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [target]
