"""The checking processes are owned: nothing is left after an exit, a kill or Ctrl-C; a broken server is no pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from labkit.exercises.job import Job
from labkit.exercises.process import Checker

CHECK = "def check(grader, answer):\n    grader.equal(grader.call(answer), 1)"
ENDLESS = "def one():\n    import time\n    while True: time.sleep(0.01)"


def job(answer: str, **fields: object) -> Job:
    settings: dict = {"deadline_s": 5.0, "memory_bytes": 2**29, "check": CHECK} | fields
    return Job(task="one", answer_name="one", setup=[], reference=[], answer_cells=[("one", answer)], **settings)


def test_one_server_serves_many_answers_and_each_has_a_process_of_its_own() -> None:
    spoil = "import builtins, math\nbuiltins.len = None\nmath.pi = 3\ndef one(): return 2"
    with Checker() as checker:
        assert checker.run(job("def one(): return 1"))["status"] == "passed"
        assert checker.run(job(spoil))["status"] == "failed"
        clean = "import math\ndef one(): return int(len([math.pi > 3]))"
        assert checker.run(job(clean))["status"] == "passed"
        pids = [checker.run(job("import os\ndef one(): return os.getpid()"))["got"] for _ in range(3)]
    assert len(set(pids)) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_an_answer_has_an_empty_folder_no_input_and_a_lab_home_of_its_own(lab_home: Path) -> None:
    source = (
        "import os, sys\ndef one():\n    assert os.listdir() == [] and sys.stdin.read() == ''\n"
        "    assert os.environ['LABKIT_HOME'].startswith(os.getcwd())\n    return os.getcwd()"
    )
    with Checker() as checker:
        folder = checker.run(job(source))["got"]
    assert not os.path.exists(folder)


def test_every_bound_holds_for_every_answer_of_one_server() -> None:
    eat = "def one():\n    return len(bytearray(2**30))"
    with Checker() as checker:
        for _ in range(2):
            assert checker.run(job(ENDLESS, deadline_s=0.3))["kind"] == "deadline"
            if sys.platform == "linux":
                assert checker.run(job(eat))["kind"] == "memory"
            assert checker.run(job("def one(): return 1"))["status"] == "passed"


def test_a_failure_that_came_before_the_deadline_is_the_story() -> None:
    check = "def check(grader, answer):\n    grader.equal(grader.call(answer), 1)\n    while True: pass"
    with Checker() as checker:
        outcome = checker.run(job("def one(): return 7", check=check, deadline_s=0.5))
    assert (outcome["kind"], outcome["got"], outcome["at"]) == ("value", 7, 1)


def test_orphans_of_an_answer_are_ended() -> None:
    source = (
        "import subprocess\ndef one():\n"
        "    return subprocess.Popen(['sleep', '986'], start_new_session=True, stdout=subprocess.DEVNULL).pid"
    )
    with Checker() as checker:
        pid = checker.run(job(source))["got"]
        assert not psutil.pid_exists(pid)


def test_a_server_that_is_killed_is_not_a_pass_and_the_next_job_gets_a_new_one() -> None:
    with Checker() as checker:
        checker.run(job("def one(): return 1"))
        os.kill(checker._server.pid, signal.SIGKILL)
        outcome = checker.run(job("def one(): return 1"))
        assert outcome["status"] == "not verified"
        assert checker.run(job("def one(): return 1"))["status"] == "passed"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_when_who_asked_dies_so_does_everything_it_started(how: signal.Signals, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    source = f"import os, time\ndef one():\n    open({str(marker)!r}, 'w').write(str(os.getpid()))\n    time.sleep(99)"
    program = (
        "import sys; from labkit.exercises.job import Job; from labkit.exercises.process import Checker\n"
        f"job = Job(task='one', answer_name='one', setup=[], reference=[], answer_cells=[('one', {source!r})],"
        f" check={CHECK!r}, deadline_s=99.0, memory_bytes=2**29)\n"
        "with Checker() as checker: checker.run(job)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not (marker.exists() and marker.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    started = psutil.Process(parent.pid).children(recursive=True)
    assert int(marker.read_text()) in [child.pid for child in started]
    parent.send_signal(how)
    parent.wait(10)
    assert psutil.wait_procs(started, timeout=5)[1] == []
