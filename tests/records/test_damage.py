"""Damaged, locked and full: said plainly, and nothing that was there is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.errors import LockedRecordsError, NoSpaceError, TornRecordsError
from labkit.records import Records


def tear(path: Path) -> None:
    """Two pages of noise in a file whose beginning is sound."""
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * 4096] + b"\xff" * 8192 + whole[5 * 4096 :])


@pytest.mark.parametrize("damage", ["not a database", "torn"])
def test_a_damaged_file_is_said_and_left_alone(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "records.sqlite"
    with Records(path) as records:
        for _ in range(50):
            records.start_run("x", config={"padding": "y" * 500})
        records.backup(tmp_path / "records.backup.sqlite")
    if damage == "torn":
        tear(path)
    else:
        path.write_bytes(b"hello " * 2000)
    before = path.read_bytes()
    with pytest.raises(
        TornRecordsError, match=r"damaged.*left as it is.*newest sound backup, .*records\.backup\.sqlite, "
    ):
        Records(path)
    assert path.read_bytes() == before


def test_only_a_sound_backup_is_named_and_following_the_advice_works(tmp_path: Path) -> None:
    path, older, newer = (tmp_path / name for name in ("records.sqlite", "records.a.sqlite", "records.b.sqlite"))
    with Records(path) as records:
        records.start_run("kept")
        records.backup(older)
        records.backup(newer)
    tear(newer)
    path.write_bytes(b"no database at all" * 500)
    os.utime(older, ns=(1, 1))
    with pytest.raises(TornRecordsError, match=r"newest sound backup, .*records\.a\.sqlite, ") as told:
        Records(path)
    assert "records.b.sqlite" not in str(told.value)
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):  # what the message says
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(older, path)
    with Records(path) as records:
        assert records.runs()["name"].tolist() == ["kept"]


def test_a_damaged_file_without_any_backup(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    path.write_bytes(b"no database at all" * 500)
    with pytest.raises(TornRecordsError, match="to start anew: no backup is there"):
        Records(path)


def test_damage_behind_an_open_kernel_is_said_at_the_next_use(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with Records(path) as records:
        for _ in range(50):
            records.start_run("x", config={"padding": "y" * 500})
    with Records(path) as records:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        with pytest.raises(TornRecordsError, match="damaged"):
            records.runs()


HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(60)
"""


def test_a_file_that_another_process_holds(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    Records(path).close()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        holder.stdout.readline()
        with Records(path, busy_timeout_s=0.2) as records, pytest.raises(LockedRecordsError, match=f"pid {holder.pid}"):
            records.start_run("x")
    finally:
        holder.kill()
        holder.communicate()
    with Records(path) as records:
        records.start_run("x")


EXCLUSIVE = HOLDER.replace(
    "connection.execute(", "connection.execute('PRAGMA locking_mode = EXCLUSIVE'); connection.execute("
)


def test_opening_a_file_that_another_process_keeps_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    Records(path).close()
    holder = subprocess.Popen([sys.executable, "-c", EXCLUSIVE, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        holder.stdout.readline()
        with pytest.raises(LockedRecordsError, match=f"pid {holder.pid}"):
            Records(path, busy_timeout_s=0.2)
    finally:
        holder.kill()
        holder.communicate()
    Records(path).close()


FULL = """
import os, sys
from pathlib import Path
from labkit.errors import NoSpaceError
from labkit.records import Records, write_durably

folder = Path(sys.argv[1])
(folder / "small").write_bytes(b"old")
with Records(folder / "records.sqlite") as records:
    kept = []
    try:
        for _ in range(10_000):
            kept.append(records.start_run("x", config={"padding": "y" * 2000}, code={}).id)
    except NoSpaceError as error:
        assert "is unchanged" in str(error), error
    else:
        raise SystemExit("the disk was never full")
    assert records.runs()["id"].tolist() == kept
    for attempt in (lambda: write_durably(folder / "small", b"n" * 10**6), lambda: records.backup(folder / "b.sqlite")):
        try:
            attempt()
        except NoSpaceError:
            continue
        raise SystemExit("the disk was not full for a file")
    assert (folder / "small").read_bytes() == b"old"
    assert not (folder / "b.sqlite").exists()
    assert not list(folder.glob(".*.new"))
with Records(folder / "records.sqlite") as records:
    assert records.runs()["id"].tolist() == kept
print("kept", len(kept))
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A tmpfs of 1 MiB in a mount namespace of its own, which ends with the process."""
    if not shutil.which("unshare"):
        pytest.skip("no unshare here, so no small disk can be made")
    mount = 'mount -t tmpfs -o size=1m none "$0"'
    tried = subprocess.run(["unshare", "-Umr", "sh", "-c", mount, str(tmp_path)], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this system lets no user mount a small disk: {tried.stderr.strip()}")
    command = ["unshare", "-Umr", "sh", "-c", mount + ' && exec "$1" -c "$2" "$0"', str(tmp_path), sys.executable, FULL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[1]) > 10


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    with Records(tmp_path / "records.sqlite") as records:
        records.start_run("kept")
        pages = records.database.open().execute("PRAGMA page_count").fetchone()[0]
        records.database.open().execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(NoSpaceError, match=r"what it held before is unchanged"):
            records.start_run("lost", config={"large": "x" * 10**6})
        assert records.runs()["name"].tolist() == ["kept"]
