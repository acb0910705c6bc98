"""The command line as people and programs call it: exit codes, JSON, one-line errors."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from labkit import launch
from labkit.cli import doctor, main
from labkit.measure import Measured
from labkit.records import Claim, Records

ROOT = Path(__file__).resolve().parents[2]
LESSON = ROOT / "notebooks" / "00_start_here.ipynb"
EXERCISE = ROOT / "exercises" / "00_start_here.ipynb"
SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]


def labkit(*words: str | int | Path) -> int:
    return main([str(word) for word in words])


def test_doctor_is_green_on_a_cpu_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert labkit("doctor", "--json", "--root", ROOT) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["machine"]["num_cores"] >= 1
    assert {lesson["id"] for lesson in report["lessons"]} >= {"00"}
    assert report["packages"]["torch"]
    assert labkit("doctor", "--root", ROOT) == 0
    assert "The lab can run here." in capsys.readouterr().out


def test_doctor_says_what_a_lesson_loses_without_a_gpu() -> None:
    report = doctor.examine(ROOT)
    if report["machine"]["accelerators"]:
        pytest.skip("a GPU is attached")
    lost = next(lesson for lesson in report["lessons"] if lesson["id"] == "00")["missing"]
    assert [step["step"] for step in lost] == ["gpu-roofline"]
    assert "NVIDIA" in lost[0]["reason"]


def test_doctor_names_the_compiler_or_says_what_is_lost_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for compiler, said in ((sys.executable, f"compiler     {sys.executable}"), ("no-such-compiler", "Install g++")):
        monkeypatch.setenv("CXX", compiler)
        assert labkit("doctor", "--root", ROOT) == 0  # it is no problem: torch's operations do the same
        assert said in capsys.readouterr().out


def test_doctor_reports_where_torch_is_missing() -> None:
    without = (
        "import sys; sys.modules['torch'] = None; from labkit.cli import main; main(['doctor', '--root', sys.argv[1]])"
    )
    told = subprocess.run([sys.executable, "-c", without, str(ROOT)], capture_output=True, text=True, check=True)
    assert "compiler     " in told.stdout


def test_doctor_names_a_missing_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    installed = doctor._installed()
    monkeypatch.setattr(doctor, "_installed", lambda: {k: v for k, v in installed.items() if k != "nbdime"})
    assert labkit("doctor", "--root", ROOT) == 1
    assert "nbdime is not installed. Run `make setup`." in capsys.readouterr().out


def test_claims_show_the_latest_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert labkit("claims") == 0
    assert "No claim has been decided yet" in capsys.readouterr().out
    claim = Claim(id="00-a", statement="Bigger is faster", rule="figure >= 2", quantity="speed-up", unit="×")
    for value in (1.0, 3.0):
        with Records() as records, records.start_run("00_x") as run:
            run.fix(claim)
            run.decide("00-a", Measured(name="f", value=value, unit="×", low=value, high=value, n=1))
    assert labkit("claims", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["id"], row["figure"], row["verdict"]) for row in rows] == [("00-a", 3.0, "holds")]
    assert labkit("claims") == 0
    assert "✓ 00-a  Bigger is faster" in capsys.readouterr().out


def test_ps_stop_and_clean(capsys: pytest.CaptureFixture[str], lab_home: Path) -> None:
    (lab_home / "cache").mkdir()
    (lab_home / "cache" / "x").write_bytes(b"x" * 2048)
    with launch.OwnedProcess(SLEEP, name="sleeper", kind="test") as process:
        assert labkit("ps", "--json") == 0
        assert json.loads(capsys.readouterr().out)[0]["pid"] == process.pid
        assert labkit("clean") == 2
        assert "Run `labkit stop` first" in capsys.readouterr().err
        assert labkit("stop", 1) == 2
        assert "No process of the lab has pid 1" in capsys.readouterr().err
        assert labkit("stop", process.pid) == 0
        assert f"ended {process.pid}  test: sleeper" in capsys.readouterr().out
    assert labkit("ps") == 0
    assert "Nothing of the lab is running." in capsys.readouterr().out
    assert labkit("clean", "--dry-run") == 0
    assert "2.0 KiB  could be freed" in capsys.readouterr().out
    assert (lab_home / "cache" / "x").exists()
    assert labkit("clean") == 0
    assert not (lab_home / "cache").exists()


def test_records_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Records() as records:
        records.start_run("x")
    assert labkit("records", "backup", tmp_path / "copy.sqlite") == 0
    with Records(tmp_path / "copy.sqlite") as copy:
        assert copy.runs()["name"].tolist() == ["x"]
    assert labkit("records", "backup", tmp_path / "copy.sqlite") == 2
    assert "is not overwritten" in capsys.readouterr().err
    assert labkit("records", "backup") == 2


def test_check_and_diff(capsys: pytest.CaptureFixture[str]) -> None:
    assert labkit("check", ROOT / "solutions" / "00_start_here.ipynb", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["failed"], report["not_verified"]) == (0, 0)
    assert report["passed"] >= 3
    assert labkit("check", EXERCISE) == 1
    assert "0 passed" in capsys.readouterr().out
    assert labkit("check", LESSON) == 2
    assert labkit("diff", EXERCISE) == 2
    assert labkit("diff", "--show", EXERCISE) == 0
    assert labkit("exercises", "build", "--check", "--root", ROOT) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "none.ipynb", "--out", "out"], "none.ipynb does not exist"),
        (["run", LESSON, "--out", "out", "--profile", "qick"], "Did you mean 'quick'"),
        (["run", LESSON, "--out", "out", "-p", "sead", "1"], "Did you mean 'seed'"),
        (["doctor", "--root", "/tmp"], "has no notebooks/ folder"),
        (["lab", "--root", ROOT, "--work", "work", "--port", "80"], "between 1024 and 65535"),
    ],
)
def test_errors_are_one_line_and_exit_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert labkit(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_taken_port_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert labkit("lab", "--no-browser", "--root", ROOT, "--work", tmp_path / "work", "--port", port) == 2
    assert f"Port {port} is taken. Leave --port out" in capsys.readouterr().err


def test_lab_serves_on_loopback_with_its_token_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    work = tmp_path / "work"
    command = [sys.executable, "-m", "labkit", "lab", "--no-browser", "--root", str(ROOT), "--work", str(work)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    lab = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        found = next(m for line in lab.stdout if (m := re.search(r"http://127\.0\.0\.1:\d+\S+", line)))
        page, _, token = found.group(0).partition("?token=")
        assert page.endswith("/lab/tree/notebooks/00_start_here.ipynb")
        base = page.partition("/lab/")[0]
        with urllib.request.urlopen(found.group(0), timeout=30) as answer:
            assert b"jupyter-config-data" in answer.read()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}/api/contents", timeout=30)
        assert refused.value.code == 403
        refused.value.close()
        with urllib.request.urlopen(f"{base}/api/contents?token={token}", timeout=30) as answer:
            names = {item["name"] for item in json.loads(answer.read())["content"]}
        assert {"notebooks", "exercises"} <= names
        assert [process.kind for process in launch.processes()] == ["jupyterlab"]
    finally:
        lab.send_signal(signal.SIGINT)
        out = lab.communicate(timeout=30)[0]
    assert lab.returncode == 0
    assert "JupyterLab has stopped." in out
    assert launch.processes() == []


def test_a_command_loads_only_what_it_needs() -> None:
    code = (
        "import sys; from labkit.cli import main; main(['ps']); "
        "print([m for m in ('torch', 'matplotlib', 'papermill', 'pandas', 'IPython') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m labkit doctor --root {ROOT} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
