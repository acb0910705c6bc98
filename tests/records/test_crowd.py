"""Many processes, threads, forks and kills at once. Real processes, real kills."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from labkit.measure import Measured
from labkit.records import Records

FIGURE = Measured(name="t", value=2.0, unit="s", low=1.0, high=3.0, n=5, warmup=1, machine="m")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["labkit.records", "psutil"])  # imports once; every process is a fresh one all the same


def write_runs(path: Path, num_runs: int) -> None:
    with Records(path) as records:
        for index in range(num_runs):
            with records.start_run("crowd", config={"pid": os.getpid(), "index": index}, code={}) as run:
                run.log(FIGURE)


@pytest.mark.timeout(300)
def test_eight_processes_write_500_runs_each_and_4000_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    writers = [SERVER.Process(target=_write_runs_in_child, args=(str(path), 500)) for _ in range(8)]
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_loses_nothing_when_its_parent_closes(tmp_path: Path) -> None:
    """SQLite's own memory says to a child that it holds the locks of its parent: see Database."""
    path = tmp_path / "records.sqlite"
    records = Records(path)
    records.start_run("parent", code={})
    go, going = os.pipe()
    done, doing = os.pipe()
    child = os.fork()
    if not child:  # ends without the parent's clean-up, whatever happens
        try:
            records.start_run("child 1", code={})
            os.write(doing, b"1")
            os.read(go, 1)
            records.start_run("child 2", code={})
            os.write(doing, b"2")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(doing)
    told = os.read(done, 1)
    records.close()
    os.write(going, b"x")
    told += os.read(done, 1)
    os.waitpid(child, 0)
    assert told == b"12"
    assert records.runs()["name"].tolist() == ["parent", "child 1", "child 2"]
    records.close()
    for end in (go, going, done):
        os.close(end)


def _open_at_once(path: str, start: object, num_runs: int) -> None:
    start.wait()
    write_runs(Path(path), num_runs)


def test_kernels_that_open_a_new_file_at_the_same_moment(tmp_path: Path) -> None:
    for attempt in range(3):
        path, start = tmp_path / f"records{attempt}.sqlite", SERVER.Barrier(6)
        kernels = [SERVER.Process(target=_open_at_once, args=(str(path), start, 2)) for _ in range(6)]
        for kernel in kernels:
            kernel.start()
        for kernel in kernels:
            kernel.join()
        assert [kernel.exitcode for kernel in kernels] == [0] * 6
        with Records(path) as records:
            assert len(records.runs()) == 12


def test_threads_share_the_file_also_while_others_fork() -> None:
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
    for _ in range(5 * hasattr(os, "fork")):
        child = os.fork()
        if not child:
            try:
                records.start_run("fork")
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    for thread in threads:
        thread.join()
    assert failed == []
    assert records.runs()["name"].value_counts().to_dict() == {"thread": 80, "fork": 5, "parent": 1}
    records.close()
