"""The records file under crowds, crashes, damage and old age. Real processes, real kills."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pandas
import pytest

from labkit.errors import (
    LockedRecordsError,
    NetworkHomeError,
    NewerSchemaError,
    NoSpaceError,
    RecordsError,
    TornRecordsError,
    UsageError,
)
from labkit.measure import Measured
from labkit.records import Records, schema, store

FIGURE = Measured(name="t", value=2.0, unit="s", low=1.0, high=3.0, n=5, warmup=1, machine="m")


def test_what_was_written_is_read_back() -> None:
    ticks = iter(range(100, 200))
    with Records(clock=lambda: next(ticks)) as records:
        with records.start_run("00_test", config={"size": 4, "sizes": [1, 2]}) as run:
            run.log(FIGURE)
            run.note("why", {"because": 1})
        with pytest.raises(ZeroDivisionError), records.start_run("00_bad"):
            _ = 1 / 0
        records.start_run("00_open")
        runs = records.runs().set_index("name")
        figures = records.measurements()
    assert runs["status"].to_dict() == {"00_test": "ok", "00_bad": "failed", "00_open": "running"}
    assert runs.loc["00_test", "config"] == {"size": 4, "sizes": [1, 2]}
    assert runs.loc["00_test", "notes"] == {"why": {"because": 1}}
    assert {"commit", "python", "torch"} <= runs.loc["00_test", "code"].keys()
    assert runs.loc["00_test", "started_at"] == pandas.Timestamp(100, unit="s", tz="UTC")
    assert pandas.isna(runs.loc["00_open", "ended_at"])
    assert figures.loc[0, "data"] == FIGURE.to_dict()
    assert (figures.loc[0, "run"], figures.loc[0, "low"], figures.loc[0, "high"]) == ("00_test", 1.0, 3.0)


def test_empty_records_are_frames_of_the_right_shape() -> None:
    with Records() as records:
        for frame in (records.runs(), records.measurements(), records.claims(), records.predictions()):
            assert len(frame) == 0
        assert str(records.runs()["started_at"].dtype).endswith("UTC]")


def test_the_group_of_a_runner_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_RUN_GROUP", "g1")
    with Records() as records:
        records.start_run("a")
        assert records.runs()["run_group"].tolist() == ["g1"]


def write_runs(path: Path, num_runs: int) -> None:
    with Records(path) as records:
        for index in range(num_runs):
            with records.start_run("crowd", config={"pid": os.getpid(), "index": index}, code={}) as run:
                run.log(FIGURE)


@pytest.mark.timeout(300)
def test_eight_processes_write_500_runs_each_and_4000_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    spawn = multiprocessing.get_context("forkserver")
    writers = [spawn.Process(target=_write_runs_in_child, args=(str(path), 500)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 8
    with Records(path) as records:
        runs = records.runs()
        assert len(runs) == 4000
        assert (runs["status"] == "ok").all()
        assert len(records.measurements()) == 4000
        seen = {(config["pid"], config["index"]) for config in runs["config"]}
    assert len(seen) == 4000


def _write_runs_in_child(path: str, num_runs: int) -> None:
    write_runs(Path(path), num_runs)


WRITER = """
import sys
from labkit.records import Records
with Records(sys.argv[1]) as records:
    while True:
        run = records.start_run("w", code={})
        print(run.id, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_writer_killed_at_a_random_moment_loses_no_committed_run(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "records.sqlite"
    pipes = {"stdout": subprocess.PIPE, "text": True}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], **pipes)
    first = writer.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.05, 0.5))
    writer.send_signal(signal.SIGKILL)
    told = [first.strip(), *writer.communicate()[0].split()]
    with Records(path) as records:
        kept = set(records.runs()["id"])
    assert set(told[:-1]) <= kept  # the last line may be torn
    assert len(kept) - len(told) in (-1, 0, 1)


def test_threads_and_forks_have_connections_of_their_own() -> None:
    records = Records()
    records.start_run("parent")
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                records.start_run("thread")
            records.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(records.runs()) == 81
    records.close()


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


def test_a_newer_schema_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(NewerSchemaError, match=r"newer labkit.*Update the lab"):
        Records(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["not a database", "torn"])
def test_a_damaged_file_is_said_and_left_alone(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "records.sqlite"
    with Records(path) as records:
        for _ in range(50):
            records.start_run("x", config={"padding": "y" * 500})
        records.backup(tmp_path / "records.backup.sqlite")
    whole = path.read_bytes()
    if damage == "torn":
        path.write_bytes(whole[: 3 * 4096] + b"\xff" * 8192 + whole[5 * 4096 :])
    else:
        path.write_bytes(b"hello " * 2000)
    before = path.read_bytes()
    with pytest.raises(TornRecordsError, match=r"damaged.*left as it is.*newest backup"):
        Records(path)
    assert path.read_bytes() == before
    Records(tmp_path / "records.backup.sqlite").close()


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


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    with Records(tmp_path / "records.sqlite") as records:
        records.start_run("kept")
        pages = records._connection().execute("PRAGMA page_count").fetchone()[0]
        records._connection().execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(NoSpaceError, match=r"what it held before is unchanged"):
            records.start_run("lost", config={"large": "x" * 10**6})
        assert records.runs()["name"].tolist() == ["kept"]


def test_places_where_records_cannot_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Records(tmp_path / "no" / "records.sqlite")
    with pytest.raises(UsageError, match="is a folder"):
        Records(tmp_path)
    monkeypatch.setattr(store, "is_network_filesystem", lambda path: True)
    monkeypatch.setattr(store, "filesystem_type", lambda path: "nfs4")
    with pytest.raises(NetworkHomeError, match=r"lie on nfs4.*Set LABKIT_HOME"):
        Records(tmp_path / "records.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_config_must_be_plain_data() -> None:
    with Records() as records, pytest.raises(UsageError, match="plain data"):
        records.start_run("x", config={"f": object()})


def test_backup_while_in_use(tmp_path: Path) -> None:
    with Records() as records:
        records.start_run("x")
        with records.transaction() as write:
            write.execute("UPDATE runs SET status = 'half'")
            # another connection copies what is committed
            with Records() as other:
                other.backup(tmp_path / "copy.sqlite")
    with Records(tmp_path / "copy.sqlite") as copy:
        assert copy.runs()["status"].tolist() == ["running"]
