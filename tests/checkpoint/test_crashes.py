"""Every crash prefix of publishing and pruning, with unsynced data and names dropped: SIGKILL cannot show these."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from labkit.checkpoint import Store

from .disk import RecordingFolders, crashes, lay

STEPS = (1, 2, 3, 4)  # with keep=2 the last two prune
SYNCS = 5  # of one publication: two files, the manifest, the staged folder, the store's folder
_number = count()


def content(step: int) -> dict[str, bytes]:
    return {"a": b"weights of %d" % step * 5, "b": b"moments of %d" % step * 9}


def published(root: Path, leave_out: int | None = None) -> tuple[RecordingFolders, dict[int, int]]:
    """The recorded operations, and after how many of them each step's publication had returned."""
    root.mkdir()
    fs = RecordingFolders(leave_out)
    store, returned = Store(root, model="m", keep=2, fs=fs), {}
    for step in STEPS:
        store.publish(step, lambda staged, s=step: [fs.write(staged / n, d) for n, d in content(s).items()])
        returned[step] = len(fs.log)
    return fs, returned


def wrongs(fs: RecordingFolders, returned: dict[int, int], root: Path, scratch: Path) -> list[str]:
    """What a restart finds wrong, over every crash."""
    found, seen = [], []
    for end in range(len(fs.log) + 1):
        committed = max((step for step, length in returned.items() if length <= end), default=0)
        for tree in crashes(fs.log[:end], root):
            if (tree, committed) in seen:
                continue
            seen.append((tree, committed))
            folder = scratch / f"crash-{next(_number)}"
            lay(tree, folder)
            newest = Store(folder, model="m").latest()
            if newest is None:
                found += [f"operation {end}: step {committed} is lost"] if committed else []
            elif newest.step < committed:
                found.append(f"operation {end}: step {committed} is lost, {newest.step} is the newest")
            elif {n: newest.path(n).read_bytes() for n in ("a", "b")} != content(newest.step):
                found.append(f"operation {end}: step {newest.step} is torn")
    return found


def test_no_crash_loses_or_tears_what_was_committed(tmp_path: Path) -> None:
    fs, returned = published(tmp_path / "store")
    assert fs.syncs == SYNCS * len(STEPS)
    assert wrongs(fs, returned, tmp_path / "store", tmp_path) == []


@pytest.mark.parametrize("left_out", range(SYNCS, 2 * SYNCS))
def test_each_sync_is_needed(tmp_path: Path, left_out: int) -> None:
    fs, returned = published(tmp_path / "store", left_out)
    assert wrongs(fs, returned, tmp_path / "store", tmp_path)


def test_a_pruning_before_the_new_name_is_durable_is_caught(tmp_path: Path) -> None:
    """The disk model itself: pruned first, and with one kept, a crash leaves nothing."""
    root = tmp_path / "store"
    fs, returned = published(root)
    last = fs.log[returned[3] : returned[4]]
    renames = [i for i, operation in enumerate(last) if operation[0] == "rename"]
    assert renames[0] < next(i for i, op in enumerate(last) if op == ("sync_folder", root)) < renames[1]
