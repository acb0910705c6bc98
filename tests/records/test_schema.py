"""Older and newer files: migrated after a backup, or refused and untouched; also when killed on the way."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from labkit.errors import NewerSchemaError, RecordsError
from labkit.records import Records, schema


def old_file(path: Path) -> None:
    """A file as version 1 wrote it, with a run in it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema.STEPS[0] + "PRAGMA user_version = 1;")
        connection.execute("INSERT INTO runs VALUES ('r1', 'old', 1.0, 2.0, 'ok', '{}', '{}', NULL)")
        connection.commit()


def test_an_older_schema_is_migrated_after_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    old_file(path)
    with Records(path, clock=lambda: 77.0) as records:
        records.start_run("new")
        assert records.runs()["name"].tolist() == ["old", "new"]
        assert records.runs()["run_group"].tolist() == ["", ""]
    backup = tmp_path / "records.v1-77.sqlite"
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("SELECT name FROM runs").fetchall() == [("old",)]


def test_a_migration_that_is_cut_off_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.sqlite"
    old_file(path)
    broken = schema.STEPS[1].replace("CREATE INDEX runs_of_group", "CREATE NONSENSE")
    monkeypatch.setattr(schema, "STEPS", (schema.STEPS[0], broken))
    with pytest.raises(RecordsError):
        Records(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert "run_group" not in str(connection.execute("SELECT sql FROM sqlite_master").fetchall())
    monkeypatch.undo()
    with Records(path) as records:
        assert records.runs()["name"].tolist() == ["old"]


KILLED = """
import os, signal, sqlite3, sys
from labkit.records import Records

class Killed(sqlite3.Connection):
    def execute(self, statement, *values):
        if sys.argv[2] in statement:
            if sys.argv[3] == "after":
                super().execute(statement, *values)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(statement, *values)

real = sqlite3.connect
sqlite3.connect = lambda *args, **options: real(*args, factory=Killed, **options)
Records(sys.argv[1])
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "runs_of_group", "PRAGMA user_version = ", "COMMIT", "WAL"])
def test_a_migration_that_is_killed_leaves_a_file_that_opens(tmp_path: Path, statement: str, when: str) -> None:
    path = tmp_path / "records.sqlite"
    old_file(path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), statement, when], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Records(path) as records:
        assert records.runs()["name"].tolist() == ["old"]
        records.start_run("new")
    copies = sorted(tmp_path.glob("records.v1-*.sqlite"))
    assert copies
    for copy in copies:
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
            assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)


def test_kernels_that_migrate_at_once_leave_one_backup_of_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    old_file(path)
    command = [sys.executable, "-c", "import sys; from labkit.records import Records; Records(sys.argv[1])", str(path)]
    kernels = [subprocess.Popen(command) for _ in range(4)]
    assert [kernel.wait() for kernel in kernels] == [0] * 4
    (copy,) = tmp_path.glob("records.v1-*.sqlite")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_file_that_was_migrated_meanwhile_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with Records(path) as records:
        records.start_run("x")
        with closing(sqlite3.connect(path)) as newer:
            newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        with pytest.raises(NewerSchemaError):
            records.start_run("y")


def test_an_sqlite_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (x)")
    before = path.read_bytes()
    with pytest.raises(RecordsError, match="not one of the lab's"):
        Records(path)
    assert path.read_bytes() == before


def test_a_newer_file_whose_log_was_left_behind_is_untouched(tmp_path: Path) -> None:
    path, log = tmp_path / "records.sqlite", tmp_path / "records.sqlite-wal"
    code = f"""
import os, signal, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode = WAL")
c.execute("CREATE TABLE runs (x)")
c.execute("PRAGMA user_version = {schema.VERSION + 1}")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(path)])
    before = path.read_bytes(), log.read_bytes()
    assert before[1]
    with pytest.raises(NewerSchemaError):
        Records(path)
    assert (path.read_bytes(), log.read_bytes()) == before


def test_a_newer_schema_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(NewerSchemaError, match=r"newer labkit.*Update the lab"):
        Records(path)
    assert path.read_bytes() == before
