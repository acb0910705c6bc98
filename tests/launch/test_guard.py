"""The guard: whatever dies, and however, nothing that was started is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from labkit import launch
from labkit.errors import LaunchError
from labkit.launch.family import descendants

# A child that ignores SIGTERM, with a grandchild in a session of its own and one whose parent has left it.
HARD = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    subprocess.Popen(["sleep", "1000"])
    os._exit(0)
os.wait()
print("up", flush=True)
while True: pass
"""
COMMAND = [sys.executable, "-c", HARD]

OWNER = """
import subprocess, sys, time
from labkit import launch
with launch.OwnedProcess([sys.executable, "-c", '''HARD'''], name="hard", kind="test", grace_s=0.2) as process:
    EXTRA
    time.sleep(1000)
""".replace("HARD", HARD)


def child(argv: list[str], log: str | None = None) -> dict[str, object]:
    return {"argv": argv, "env": dict(os.environ), "cwd": None, "log": log}


def guard_of(process: launch.Guarded) -> psutil.Process:
    """The lower of the two: the keeper's only child."""
    (guard,) = psutil.Process(process.guard.pid).children()
    return guard


@pytest.mark.parametrize("victim", ["keeper", "guard"])
def test_sigkill_to_either_of_the_two_leaves_nothing(victim: str, marked) -> None:
    with launch.OwnedProcess(COMMAND, name="hard", kind="test", grace_s=0.2) as process:
        assert marked.wait(lambda: process.log_tail() == "up")
        assert len(marked.sleepers()) == 2
        if victim == "guard":
            guard_of(process).kill()
            assert process.wait(5) == 128 + signal.SIGKILL
        else:
            os.kill(process.pid, signal.SIGKILL)
        assert marked.gone_within(5)


@pytest.mark.parametrize("extra", ["pass", "import os; os.fork()"], ids=["alone", "a fork keeps its pipes open"])
def test_an_owner_killed_by_sigkill_leaves_nothing(extra: str, marked, tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER.replace("EXTRA", extra)])
    assert marked.wait(lambda: len(marked.sleepers()) == 2)
    assert [process.name for process in launch.processes()] == ["hard"]
    forked = [p for p in psutil.Process(owner.pid).children() if p.cmdline() == psutil.Process(owner.pid).cmdline()]
    owner.kill()
    owner.wait()
    assert marked.wait(lambda: {p.pid for p in marked.living()} == {p.pid for p in forked}, 5)
    for process in forked:
        process.kill()


def test_an_owner_that_kills_its_keeper_and_dies_leaves_nothing(marked) -> None:
    """As Ray's workers do."""
    dies = "import os; time.sleep(0.5); os.kill(process.pid, 9); os.kill(os.getpid(), 9)"
    owner = subprocess.Popen([sys.executable, "-c", OWNER.replace("EXTRA", dies)])
    assert owner.wait(30) == -signal.SIGKILL
    assert marked.gone_within(5)
    assert list(Path(os.environ["TMPDIR"]).glob("labkit-*")) == []
    assert launch.processes() == []


STAYS = """
import json, os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
spec = {"owner": os.getpid(), "grace_s": 1, "deadline_s": DEADLINE, "portable": False, "scratch": [str(folder)]}
spec |= {"status": str(folder / "status.jsonl"), "stay": True}
spec["children"] = [{"argv": ["sleep", "SLEEP"], "env": dict(os.environ), "cwd": None, "log": str(folder / "log")}]
(folder / "spec.json").write_text(json.dumps(spec))
guard = subprocess.Popen([sys.executable, "-I", "-S", sys.argv[2], str(folder / "spec.json")], stdin=subprocess.PIPE)
while not (folder / "status.jsonl").exists() or not (folder / "status.jsonl").read_text():
    time.sleep(0.01)
print(json.loads((folder / "status.jsonl").read_text())["code"], guard.poll(), flush=True)
END
time.sleep(1000)
"""


@pytest.mark.parametrize("deadline", [None, 0.2])
@pytest.mark.parametrize(
    "end",
    ["os.kill(os.getpid(), 9)", "os.kill(guard.pid, 9); time.sleep(3); os.kill(os.getpid(), 9)", "guard.stdin.close()"],
    ids=["killed", "killed after the keeper", "asks"],
)
def test_a_guard_that_stays_clears_away_after_the_last_child(
    end: str, deadline: float | None, marked, tmp_path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    code = STAYS.replace("END", end).replace("DEADLINE", str(deadline)).replace("SLEEP", "1000" if deadline else "0")
    guard = launch.guarded.GUARD
    owner = subprocess.Popen([sys.executable, "-c", code, str(folder), str(guard)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == f"{-signal.SIGTERM if deadline else 0} None\n"
        assert marked.wait(lambda: not folder.exists())
    finally:
        owner.kill()
        owner.communicate()
    assert marked.gone_within(5)


def test_an_owner_killed_while_it_starts_leaves_nothing(marked) -> None:
    """At every moment from before the guard runs until the child does."""
    for delay_s in (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15):
        code = OWNER.replace("with launch", "print(1, flush=True)\nwith launch").replace("EXTRA", "pass")
        owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert owner.stdout
        owner.stdout.readline()
        time.sleep(delay_s)
        owner.kill()
        owner.communicate()
        assert marked.gone_within(5), delay_s
    for scratch in Path(os.environ["TMPDIR"]).glob("labkit-*"):  # of owners killed before there was a guard
        assert not (scratch / "status.jsonl").exists()
        for file in scratch.iterdir():
            file.unlink()
        scratch.rmdir()


def test_stopped_children_end_too(marked) -> None:
    with launch.OwnedProcess(COMMAND, name="hard", kind="test", grace_s=0.2) as process:
        assert marked.wait(lambda: process.log_tail() == "up")
        for member in guard_of(process).children(recursive=True):
            member.suspend()
    assert not marked.living()


def test_what_a_child_leaves_behind_ends_with_it(marked) -> None:
    leaves = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    with launch.OwnedProcess([sys.executable, "-c", leaves], name="x", kind="test") as process:
        assert process.wait(10) == 0
        assert marked.gone_within(1)


def test_without_what_only_linux_has(marked) -> None:
    """As on macOS: no /proc, no pidfd, no adoption; what stays in its child's process group is ended."""
    stays = HARD.replace("start_new_session=True", "").replace("os.setsid()", "pass")
    with launch.Guarded(
        [child([sys.executable, "-c", stays])], name="x", kind="test", grace_s=0.2, portable=True
    ) as group:
        assert marked.wait(lambda: len(marked.sleepers()) == 2)
        assert psutil.Process(group.guard.pid).is_running()
    assert marked.gone_within(5)


def test_two_children_report_as_they_end() -> None:
    ends = [child([sys.executable, "-c", f"raise SystemExit({code})"]) for code in (0, 3)]
    with launch.Guarded(ends, name="two", kind="test") as group:
        assert group.guard.wait(10) == 0
        ended = group.ended()
        assert {index: code for index, (code, _) in ended.items()} == {0: 0, 1: 3}
        assert all(0 <= time.monotonic() - at < 60 for _, at in ended.values())


def test_a_fault_of_the_guard_itself_is_told(marked) -> None:
    broken = child(COMMAND)
    del broken["cwd"]
    with launch.Guarded([broken], name="broken", kind="test") as group:
        group.guard.wait(10)
        assert "KeyError: 'cwd'" in group.fault()


def test_it_serves_once() -> None:
    with launch.OwnedProcess(["true"], name="once", kind="test") as process:
        process.wait(10)
    with pytest.raises(LaunchError, match="once has been started before"), process:
        pass


def test_descendants_are_those_below_and_alive() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 1000 & wait"]) as shell:
        while len(descendants(shell.pid)) < 1:
            time.sleep(0.01)
        (sleeper,) = descendants(shell.pid)
        assert shell.pid in descendants(os.getpid())
        os.kill(sleeper, signal.SIGKILL)
        shell.wait()
        assert shell.pid not in descendants(os.getpid())
