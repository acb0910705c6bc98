"""Ctrl-C over a supervised job leaves no process and no folder behind. (Killed owners: tests/launch.)"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from labkit import launch

OWNER = """
import signal, sys, time
from labkit.spot import SpotJob, on_demand
from labkit.spot.market import Lives
from labkit.spot.supervisor import supervise
def work(worker, marker):
    import subprocess
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100) # " + marker], start_new_session=True)
    worker.ready(0)
    print("ready", flush=True)
    open(marker, "w").close()
    time.sleep(100)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
job = SpotJob(work_s=100, deadline_s=300, restart_s=1, step_s=0.1)
supervise(work, sys.argv[1], job=job, market=Lives([]), policy=on_demand, units=1)
"""


def processes_with(marker: str) -> int:
    return sum(marker in " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))


def test_nothing_is_left(tmp_path: Path) -> None:
    marker, scratch = tmp_path / "computing", tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(marker)], env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE
    ) as owner:
        until = time.monotonic() + 90
        while not marker.exists() and time.monotonic() < until and owner.poll() is None:
            time.sleep(0.02)
        assert marker.exists()
        owner.send_signal(signal.SIGINT)
        owner.wait(60)
    assert owner.returncode != 0
    until = time.monotonic() + 30
    while (left := processes_with(str(marker)) + len(launch.processes())) and time.monotonic() < until:
        time.sleep(0.05)  # a guard gives what it ends two seconds of grace
    assert left == 0
    assert list(scratch.glob("labkit-spot-*")) == []
