"""Owned processes: they end with their block, their deadline, or by `stop`; and only they."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from labkit import launch
from labkit.errors import LaunchError, UsageError
from labkit.launch.registry import _identity

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(1000)"]
STUBBORN = [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN);" + SLEEP[2]]


@pytest.mark.parametrize("command", [SLEEP, STUBBORN], ids=["sleep", "ignores SIGTERM"])
def test_it_ends_with_its_block(command: list[str], marked) -> None:
    with launch.OwnedProcess(command, name="sleeper", kind="test", grace_s=0.3) as process:
        assert marked.wait(lambda: process.log_tail() == "up")
        (info,) = launch.processes()
        assert (info.kind, info.name, info.owner_pid, info.alive) == ("test", "sleeper", os.getpid(), True)
        assert info.pid == info.pgid == os.getpgid(info.pid) == process.pid
        assert os.getsid(info.pid) == os.getsid(0)
        assert info.memory_bytes > 2**20
        assert process.poll() is None
    assert not marked.living()
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
    assert process.log_tail() == f"red {tmp_path}"


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


def test_a_guard_ended_by_force_has_a_code_like_any_other() -> None:
    with launch.OwnedProcess(SLEEP, name="x", kind="test") as process:
        os.kill(process.guard.pid, signal.SIGKILL)
        assert process.wait(10) == 128 + signal.SIGKILL
        assert process.poll() == 128 + signal.SIGKILL


def test_stop_ends_what_the_lab_started_and_nothing_else() -> None:
    bystander = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    try:
        with (
            launch.OwnedProcess(SLEEP, name="one", kind="test") as one,
            launch.OwnedProcess(STUBBORN, name="two", kind="test", grace_s=0.2) as two,
        ):
            assert [p.name for p in launch.stop(one.pid)] == ["one"]
            assert [p.name for p in launch.processes()] == ["two"]
            assert [p.name for p in launch.stop()] == ["two"]
            assert two.wait(5) in (128 + signal.SIGTERM, 128 + signal.SIGKILL)  # by whether it ignored it already
        assert bystander.poll() is None
        assert launch.stop() == []
    finally:
        bystander.kill()
        bystander.wait()


def entry(folder: Path, name: str, **changed: object) -> Path:
    """An entry that names this very process."""
    info = {"pid": os.getpid(), "kind": "x", "name": "x", "started_at": 0.0, "owner_pid": 1, "host": platform.node()}
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(json.dumps({**info, "identity": _identity(os.getpid()), **changed}))
    return file


def test_a_reused_pid_is_never_ended(lab_home: Path) -> None:
    """As after a reboot: the pid is somebody else's. Torn entries are swept as well."""
    folder = lab_home / "processes"
    entry(folder, "reused.json", identity="another-boot:123")
    (folder / "torn.json").write_text('{"pid": 1')
    (folder / "list.json").write_text("[1]")
    assert launch.stop() == []
    assert list(folder.iterdir()) == []


def test_entries_of_other_hosts_are_left_alone(lab_home: Path) -> None:
    theirs = entry(lab_home / "processes", "theirs.json", host="elsewhere")
    assert launch.processes() == launch.stop() == []
    assert theirs.exists()
    theirs.unlink()


def test_entries_of_another_version_are_read(lab_home: Path) -> None:
    file = entry(lab_home / "processes", "newer.json", colour="red")
    assert [info.pid for info in launch.processes()] == [os.getpid()]
    file.unlink()


def test_ports() -> None:
    port = launch.free_port()
    assert launch.port_is_free(port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert not launch.port_is_free(port)
