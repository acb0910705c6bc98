"""A fresh clone, the two commands, the clock."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from labkit.hardware import machine
from labkit.measure import Measured

ROOT = Path(__file__).resolve().parents[2]
REPEATS = 3


def _measured(name: str, samples: list[float], unit: str) -> Measured:
    return Measured.from_samples(name, samples, unit, machine=machine().id)


def _clean_environment(home: Path) -> dict[str, str]:
    """The caller's environment without this process's own virtual environment."""
    keep = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    own = str(Path(sys.prefix) / "bin")
    path = [part for part in keep["PATH"].split(os.pathsep) if part != own]
    return keep | {"PATH": os.pathsep.join(path), "LABKIT_HOME": str(home), "ACCELERATOR": "cpu"}


def fresh_clone_to_lab() -> Measured:
    """Seconds from `git clone` until JupyterLab answers at the printed URL. Package downloads may be cached."""
    samples = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            clone = Path(folder) / "clone"
            subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
            samples.append(_until_it_answers(clone, Path(folder) / "home", started))
    return _measured("fresh clone to JupyterLab", samples, "s")


def _until_it_answers(clone: Path, home: Path, started: float) -> float:
    lab = subprocess.Popen(
        ["make", "lab", "ARGS=--no-browser"],
        cwd=clone,
        env=_clean_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert lab.stdout is not None
        for line in lab.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\S+", line):
                with urllib.request.urlopen(found.group(0), timeout=30) as page:
                    assert b"jupyter-config-data" in page.read()
                return time.monotonic() - started
        raise RuntimeError("make lab ended without printing a URL")
    finally:
        os.killpg(lab.pid, signal.SIGINT)
        lab.wait(timeout=30)


def environment_bytes() -> Measured:
    """Bytes on disk of the environment that runs this."""
    out = subprocess.run(["du", "-s", "--block-size=1", sys.prefix], capture_output=True, text=True, check=True).stdout
    return _measured("environment", [float(out.split()[0])], "B")


def second_setup() -> Measured:
    """Seconds that `make setup` takes when there is nothing to do."""
    samples = []
    for _ in range(5):
        started = time.monotonic()
        subprocess.run(["make", "-s", "setup"], cwd=ROOT, check=True, capture_output=True)
        samples.append(time.monotonic() - started)
    return _measured("second make setup", samples, "s")
