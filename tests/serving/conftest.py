"""One real vLLM server for the session, started by the first test that asks for it, and fakes that start at once."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from labkit.launch import port_is_free
from labkit.serving.vllm import VLLMServer

HERE = Path(__file__).parent


def wait(condition: Callable[[], object], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


class Family:
    """A process and all that came of it so far; told by pid and start time, so a reused pid is none of them."""

    def __init__(self, pid: int) -> None:
        parent = psutil.Process(pid)
        self.members = [parent, *parent.children(recursive=True)]

    def living(self) -> list[psutil.Process]:
        return [process for process in self.members if alive(process)]

    def gone_within(self, seconds: float) -> bool:
        return wait(lambda: not self.living(), seconds)


@pytest.fixture(scope="session")
def families() -> type[Family]:
    return Family


@pytest.fixture(scope="session")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M, converted once on this machine."""
    from labkit.models import smollm2  # here: it loads torch, which most of these tests do without

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(tmp_path_factory.mktemp("home")))
        return smollm2()


@pytest.fixture(scope="session")
def vllm_server(smol: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    """Shared by all tests: send it requests, and leave it as it is. It takes 45 to 60 s to start."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(tmp_path_factory.mktemp("home")))
        server = VLLMServer(smol)
        server.__enter__()
    try:
        yield server
        family = Family(server.pid)
    finally:
        server.__exit__(None, None, None)
    assert len(family.members) >= 4  # guard, API server, engine, worker
    assert not family.living()
    assert port_is_free(int(server.endpoint.root.rpartition(":")[2]))


class FakeServer(VLLMServer):
    """A VLLMServer whose command is fake_vllm.py in one of its modes."""

    def __init__(self, model: Path, mode: str, **options: object) -> None:
        self.mode = mode
        super().__init__(model, **options)  # type: ignore[arg-type]

    def _command(self, port: int) -> tuple[tuple[str, ...], dict[str, str]]:
        _, env = super()._command(port)
        return (sys.executable, str(HERE / "fake_vllm.py"), self.mode, str(port), "tiny"), env


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """What passes as a model folder until somebody reads the weights."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def fake(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeServer]:
    """fake(mode, **options): not started yet."""
    monkeypatch.setattr("labkit.serving.vllm.vllm_folder", lambda: HERE)
    return lambda mode, **options: FakeServer(tiny, mode, **options)


@pytest.fixture
def nothing_left(lab_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], bool]]:
    """Whether all that the test started, which its environment marks, has gone in so many seconds."""
    mark = uuid.uuid4().hex
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("LABKIT_TEST_MARK", mark)
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    def living() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                marked = process.environ().get("LABKIT_TEST_MARK") == mark
                if marked and process.pid != os.getpid() and alive(process):
                    found.append(process)
        return found

    yield lambda seconds: wait(lambda: not living(), seconds)
    assert wait(lambda: not living(), 5), [process.cmdline() for process in living()]
    assert list(scratch.glob("labkit-*")) == []
    assert list((lab_home / "processes").glob("*")) == []
