"""Owned processes: they end with their block, their owner, their guard, or by `stop`; and only they."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from labkit import launch
from labkit.errors import LaunchError, UsageError

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(1000)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)",
]


def wait_for(condition, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def children_of(process: launch.OwnedProcess) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@pytest.mark.parametrize("command", [SLEEP, STUBBORN], ids=["sleep", "ignores SIGTERM"])
def test_it_ends_with_its_block(command: list[str]) -> None:
    with launch.OwnedProcess(command, name="sleeper", kind="test", grace_s=0.3) as process:
        assert wait_for(lambda: process.log_tail() == "up")
        inside = children_of(process)
        assert [(p.kind, p.name, p.owner_pid) for p in launch.processes()] == [("test", "sleeper", os.getpid())]
        assert launch.processes()[0].memory_bytes > 2**20
        assert process.poll() is None
    assert inside
    assert all_gone(inside)
    assert launch.processes() == []


def test_exit_codes_and_signals_are_passed_on(tmp_path: Path) -> None:
    with launch.OwnedProcess([sys.executable, "-c", "raise SystemExit(7)"], name="x", kind="test") as process:
        assert process.wait(10) == 7
    dies = "import os; os.kill(os.getpid(), 11)"
    with launch.OwnedProcess([sys.executable, "-c", dies], name="x", kind="test", log=tmp_path / "log") as process:
        assert process.wait(10) == 128 + signal.SIGSEGV
    with launch.OwnedProcess(SLEEP, name="x", kind="test") as process, pytest.raises(TimeoutError, match="still runs"):
        process.wait(0.2)


def test_environment_folder_and_log(tmp_path: Path) -> None:
    code = "import os; print(os.environ['COLOUR'], os.getcwd())"
    log = tmp_path / "out.log"
    command = [sys.executable, "-c", code]
    with launch.OwnedProcess(command, name="x", kind="test", env={"COLOUR": "red"}, cwd=tmp_path, log=log) as process:
        process.wait(10)
    assert log.read_text() == f"red {tmp_path}\n"


def test_a_command_that_does_not_exist_is_said() -> None:
    with launch.OwnedProcess(["/no/such/program"], name="ghost", kind="test") as process:
        process.wait(10)
        with pytest.raises(LaunchError, match=r"ghost could not be started.*no/such/program"):
            process.ended()
    with pytest.raises(UsageError, match="needs a command"):
        launch.OwnedProcess([], name="x", kind="test")
    with pytest.raises(LaunchError, match="has not been started"):
        launch.OwnedProcess(SLEEP, name="x", kind="test").poll()


def test_the_deadline_ends_it() -> None:
    with launch.OwnedProcess(SLEEP, name="x", kind="test", deadline_s=0.5) as process:
        assert process.wait(10) == 128 + signal.SIGTERM


def test_a_killed_guard_takes_its_child_with_it() -> None:
    with launch.OwnedProcess(SLEEP, name="x", kind="test") as process:
        assert wait_for(lambda: process.log_tail() == "up")
        inside = children_of(process)
        os.kill(process.pid, signal.SIGKILL)
        assert wait_for(lambda: all_gone(inside), 5)


def test_stop_ends_what_the_lab_started_and_nothing_else() -> None:
    bystander = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    try:
        with (
            launch.OwnedProcess(SLEEP, name="one", kind="test") as one,
            launch.OwnedProcess(SLEEP, name="two", kind="test") as two,
        ):
            assert [p.name for p in launch.stop(one.pid)] == ["one"]
            assert [p.name for p in launch.processes()] == ["two"]
            assert [p.name for p in launch.stop()] == ["two"]
            assert two.wait(5) == 128 + signal.SIGTERM
        assert bystander.poll() is None
        assert launch.stop() == []
    finally:
        bystander.kill()
        bystander.wait()


def test_a_reused_pid_is_never_ended(lab_home: Path) -> None:
    """An entry that names this very process, but with another start time, as after a reboot."""
    entry = {"pid": os.getpid(), "kind": "x", "name": "x", "started_at": 0.0, "owner_pid": 1, "create_time": 12345.0}
    folder = lab_home / "processes"
    folder.mkdir()
    (folder / f"{os.getpid()}.json").write_text(json.dumps(entry))
    (folder / "torn.json").write_text('{"pid": 1')
    assert launch.processes() == []
    assert launch.stop() == []
    assert list(folder.iterdir()) == []


def test_ports() -> None:
    port = launch.free_port()
    assert launch.port_is_free(port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert not launch.port_is_free(port)
