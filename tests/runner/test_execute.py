"""Notebooks run unattended by real kernels: what is refused, what fails how, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from labkit import launch, runner
from labkit.errors import NotebookError, UsageError

CLAIM = (
    "from labkit.measure import Measured\nfrom labkit.records import Claim, Records\n"
    "run = Records().start_run('00_x')\n"
    "run.fix(Claim(id='00-a', statement='S', rule='figure >= 2', quantity='q', unit='×'))\n"
)
FIGURE = "Measured(name='f', value=3.0, unit='×', low=3.0, high=3.0, n=1)"


def make(
    path: Path, *cells: str, parameters: str | None = 'profile = "full"\nsize = 3', kernel: str = "python3"
) -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
    if parameters is not None:
        notebook.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def living(marker: str) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or [])]


def gone(marker: str, seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until and living(marker):
        time.sleep(0.05)
    return not living(marker)


def test_it_runs_writes_and_reports(tmp_path: Path) -> None:
    path = make(
        tmp_path / "00_x.ipynb",
        "print(profile, size)",
        CLAIM + f"run.decide('00-a', {FIGURE}); run.finish()",
        "import os; print(os.environ['LABKIT_HEADLESS'])",
    )
    told: list[str] = []
    out = tmp_path / "out"
    report = runner.run_notebooks([path], out=out, parameters={"size": 5}, on_progress=lambda _, m: told.append(m))
    assert report.ok, report.notebooks[0].error
    executed = json.loads((out / "00_x.ipynb").read_text())
    printed = [o["text"] for cell in executed["cells"] for o in cell.get("outputs", ()) if "text" in o]
    assert ["".join(text).strip() for text in printed] == ["quick 5", "1"]
    claims = json.loads((out / "claims.json").read_text())
    assert [(c["id"], c["notebook"], c["figure"], c["verdict"]) for c in claims] == [("00-a", "00_x", 3.0, "holds")]
    assert claims[0]["rule"] == "figure >= 2"
    assert told
    assert json.loads(path.read_text())["cells"][0]["outputs"] == []  # the source stays as it was


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"profile": "fast"}, UsageError, "profile must be quick or full; got 'fast'"),
        ({"profile": "ful"}, UsageError, "Did you mean 'full'"),
        ({"parameters": {"sise": 4}}, UsageError, "no parameter 'sise'; it has profile, size. Did you mean 'size'"),
        ({"deadline_s": 0}, UsageError, "deadline_s must be positive"),
    ],
)
def test_what_is_refused_before_anything_runs(tmp_path: Path, arguments: dict, error: type, words: str) -> None:
    path = make(tmp_path / "00_x.ipynb", "open('ran', 'w')")
    with pytest.raises(error, match=words):
        runner.run_notebooks([path], out=tmp_path / "out", **arguments)
    assert not (tmp_path / "ran").exists()


def test_notebooks_that_are_none(tmp_path: Path) -> None:
    untagged = make(tmp_path / "a.ipynb", "1", parameters=None)
    with pytest.raises(NotebookError, match="no code cell tagged `parameters`"):
        runner.run_notebooks([untagged], out=tmp_path / "out")
    with pytest.raises(NotebookError, match="names no kernel"):
        runner.run_notebooks([make(tmp_path / "b.ipynb", "1", kernel="")], out=tmp_path / "out")
    (tmp_path / "torn.ipynb").write_text('{"cells": [')
    with pytest.raises(NotebookError, match="not a readable notebook"):
        runner.run_notebooks([tmp_path / "torn.ipynb"], out=tmp_path / "out")
    with pytest.raises(NotebookError, match="does not exist"):
        runner.run_notebooks([tmp_path / "none.ipynb"], out=tmp_path / "out")
    with pytest.raises(UsageError, match="No notebook was named"):
        runner.run_notebooks([], out=tmp_path / "out")


def test_folders_that_cannot_be_meant(tmp_path: Path) -> None:
    path = make(tmp_path / "00_x.ipynb", "print('x')")
    with pytest.raises(UsageError, match="must go to another folder"):
        runner.run_notebooks([path], out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used as a folder"):
        runner.run_notebooks([path], out=tmp_path / "file")
    assert json.loads(path.read_text())["cells"]


def test_a_cell_that_leaves_by_sys_exit_is_a_failure(tmp_path: Path) -> None:
    path = make(tmp_path / "{braces}" / "00_x.ipynb", "import sys; sys.exit(0)", "print('never')")
    report = runner.run_notebooks([path], out=tmp_path / "out")
    assert "cell 2: the cell ended the notebook (sys.exit?)" in report.notebooks[0].error


def test_a_foreign_kernel_and_backend_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    path = make(tmp_path / "00_x.ipynb", "from matplotlib import pyplot as plt\n_ = plt.plot([1, 2])")
    report = runner.run_notebooks([path], out=tmp_path / "out")
    assert report.ok, report.notebooks[0].error
    assert "image/png" in report.notebooks[0].out.read_text()


def test_a_failing_cell_is_shown_and_the_next_notebook_runs(tmp_path: Path) -> None:
    bad = make(tmp_path / "00_bad.ipynb", CLAIM, "x = 1\nraise RuntimeError('on purpose')", "print('never')")
    good = make(tmp_path / "00_good.ipynb", "print('after')")
    report = runner.run_notebooks([bad, good], out=tmp_path / "out")
    failed, passed = report.notebooks
    assert (failed.ok, failed.failing_cell, passed.ok, report.ok) == (False, 3, True, False)
    assert "00_bad.ipynb, cell 3: RuntimeError: on purpose" in failed.error
    assert "    raise RuntimeError('on purpose')" in failed.error
    assert "\x1b" not in failed.error
    assert report.claims[0]["verdict"] == "not measurable here"
    assert report.claims[0]["reason"] == "the notebook failed in cell 3"
    assert report.claims[0]["figure"] is None
    assert "on purpose" in failed.out.read_text()


def test_a_claim_that_is_never_decided_fails_the_run(tmp_path: Path) -> None:
    report = runner.run_notebooks([make(tmp_path / "00_x.ipynb", CLAIM)], out=tmp_path / "out")
    assert not report.ok
    assert "never decided: 00-a" in report.notebooks[0].error


def test_a_failing_widget_fails_the_run(tmp_path: Path) -> None:
    cell = (
        "import json, os\nwith open(os.environ['LABKIT_WIDGET_FAILURES'], 'a') as f:\n"
        "    f.write(json.dumps({'where': 'the panel', 'error': 'ZeroDivisionError', 'message': 'x'}) + '\\n')"
    )
    report = runner.run_notebooks([make(tmp_path / "00_x.ipynb", cell)], out=tmp_path / "out")
    assert "the widget the panel failed: ZeroDivisionError" in report.notebooks[0].error


def test_a_cell_that_kills_its_kernel(tmp_path: Path) -> None:
    path = make(tmp_path / "00_x.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    report = runner.run_notebooks([path], out=tmp_path / "out", deadline_s=60)
    assert "00_x.ipynb, cell 2: the kernel died" in report.notebooks[0].error
    assert report.notebooks[0].duration_s < 50
    assert "the kernel died" in report.notebooks[0].out.read_text()


CHILD = """
import subprocess, sys
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000) # MARK'], start_new_session=True)
while True: pass
"""


def test_a_cell_that_never_ends_is_ended_with_its_children(tmp_path: Path) -> None:
    marker = f"labkit-endless-{os.getpid()}"
    path = make(tmp_path / "00_x.ipynb", CHILD.replace("MARK", marker))
    # A kernel starts in two seconds, on a busy machine in eight.
    report = runner.run_notebooks([path], out=tmp_path / "out", deadline_s=20)
    assert "cell 2: not done within 20 s" in report.notebooks[0].error
    assert gone(marker)
    assert launch.processes() == []


RUN = "import sys; from labkit import runner; runner.run_notebooks([sys.argv[1]], out=sys.argv[2])"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_ending_the_runner_ends_kernel_and_children(tmp_path: Path, number: signal.Signals) -> None:
    marker = f"labkit-runner-{os.getpid()}-{number}"
    path = make(tmp_path / "00_x.ipynb", CLAIM, CHILD.replace("MARK", marker))
    command = [sys.executable, "-c", RUN, str(path), str(tmp_path / "out")]
    owner = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not [pid for pid in living(marker) if pid != owner.pid] and time.monotonic() < until:
        time.sleep(0.1)
    owner.send_signal(number)
    owner.wait(20)
    assert gone(marker)
    assert gone(str(tmp_path / "out"), 3)
    if number == signal.SIGINT:
        claims = json.loads((tmp_path / "out" / "claims.json").read_text())
        assert [(c["id"], c["verdict"], c["reason"]) for c in claims] == [
            ("00-a", "not measurable here", "the run was interrupted")
        ]


def test_twins_do_not_overwrite_each_other(tmp_path: Path) -> None:
    first = make(tmp_path / "notebooks" / "00_x.ipynb", "print('lesson')")
    second = make(tmp_path / "exercises" / "00_x.ipynb", "print('exercise')")
    report = runner.run_notebooks([first, second], out=tmp_path / "out")
    assert [n.out.name for n in report.notebooks] == ["notebooks-00_x.ipynb", "exercises-00_x.ipynb"]
    with pytest.raises(UsageError, match="named twice"):
        runner.run_notebooks([first, first], out=tmp_path / "out")


async def _inside_a_loop(path: Path, out: Path) -> bool:
    return runner.run_notebooks([path], out=out).ok


def test_it_can_be_called_where_a_loop_runs(tmp_path: Path) -> None:
    import asyncio

    assert asyncio.run(_inside_a_loop(make(tmp_path / "00_x.ipynb", "1"), tmp_path / "out"))
