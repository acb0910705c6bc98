"""What must hold for hours, repeated: `make soak`. Real kills at random moments; nothing may be left or lost."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from labkit import launch, runner
from labkit.records import Records

pytestmark = [pytest.mark.soak]
ROOT = Path(__file__).resolve().parents[2]

LAUNCHER = """
import sys, time
from labkit import launch
def work(marker):
    import subprocess
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000) # " + marker], start_new_session=True)
    time.sleep(1000)
launch.run(work, sys.argv[1], ranks=3, backend=None)
"""
WRITER = """
import sys
from labkit.records import Records
with Records(sys.argv[1]) as records:
    while True:
        print(records.start_run("w", code={}).id, flush=True)
"""


def left(marker: str, seconds: float = 5) -> list[int]:
    until = time.monotonic() + seconds
    found = [0]
    while found and time.monotonic() < until:
        time.sleep(0.05)
        found = [p.pid for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or [])]
    return found


@pytest.mark.parametrize("seed", range(60))
def test_an_owner_killed_at_any_moment_leaves_nothing(seed: int) -> None:
    marker = f"labkit-soak-{seed}-{time.time_ns()}"
    owner = subprocess.Popen([sys.executable, "-c", LAUNCHER, marker])
    time.sleep(random.Random(seed).uniform(0.0, 3.0))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert left(marker) == []
    assert launch.processes() == []


@pytest.mark.parametrize("seed", range(40))
def test_a_writer_killed_at_any_moment_loses_nothing(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "records.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    first = [writer.stdout.readline() for writer in writers]
    time.sleep(random.Random(seed).uniform(0.0, 1.0))
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
    told: set[str] = set()
    for line, writer in zip(first, writers, strict=True):
        told |= set([line.strip(), *writer.communicate()[0].split()][:-1])  # the last line may be torn
    with Records(path) as records:
        assert told <= set(records.runs()["id"])


@pytest.mark.parametrize("lesson", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_lesson_decides_the_same_three_times_in_a_row(lesson: Path, tmp_path: Path) -> None:
    verdicts = []
    for turn in range(3):
        report = runner.run_notebooks([lesson], profile="full", out=tmp_path / str(turn))
        assert report.ok, report.notebooks[0].error
        claims = json.loads((tmp_path / str(turn) / "claims.json").read_text())
        verdicts.append({claim["id"]: claim["verdict"] for claim in claims})
    assert verdicts[0] == verdicts[1] == verdicts[2]
