"""Every way in which a server does not come up, or goes: a clear error, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit import launch
from labkit.errors import EndpointError, LaunchError, ServerError, UsageError

pytestmark = pytest.mark.usefixtures("nothing_left")

HERE = Path(__file__).parent
Fake = Callable[..., Any]


def sleepers(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children(recursive=True) if "1000" in child.cmdline()]


def test_a_fake_that_works_is_healthy_and_ends_with_its_block(
    fake: Fake, nothing_left: Callable[[float], bool]
) -> None:
    said: list[tuple[float, str]] = []
    with fake("works", on_progress=lambda fraction, what: said.append((fraction, what))) as server:
        port = int(server.endpoint.root.rpartition(":")[2])
        assert server.metrics().generation_tokens_total == 8
        assert sleepers(server.pid)
        assert server.startup.start_s == 0
        assert server.startup.busy_s("vLLM") == pytest.approx(server.startup.duration_s)
        assert "other" not in {span.name for span in server.startup.spans}
        assert (server.endpoint.model, server.command[-1]) == ("tiny", "tiny")
        assert [(info.kind, info.name) for info in launch.processes()] == [("server", "vLLM server of tiny")]
    assert nothing_left(0)
    assert launch.port_is_free(port)
    assert said[-1] == (1.0, "healthy")
    assert [fraction for fraction, _ in said] == sorted(fraction for fraction, _ in said)
    assert "init engine" in server.log_tail(2)
    with pytest.raises(ServerError, match="has ended"):
        server.metrics()
    with pytest.raises(LaunchError, match="started before"):
        server.__enter__()


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (
            "fails",
            r"ended before it was healthy \(exit code 1\)\. The cause in its log: torch\.OutOfMemoryError: no room",
        ),
        ("bad argument", r"exit code 2.*cause.*unrecognized arguments: --colour"),
        ("out of memory", r"exit code 137: SIGKILL, perhaps because the memory ran out"),
        ("garbled", r"exit code 3"),
    ],
)
def test_a_server_that_dies_at_its_start(fake: Fake, mode: str, said: str) -> None:
    with pytest.raises(ServerError, match=said) as caught, fake(mode):
        pass
    assert "Its last lines:" in str(caught.value)
    assert caught.value.log_tail
    assert caught.value.log_tail in str(caught.value)


@pytest.mark.parametrize("mode", ["never", "stuck", "hangs", "unhealthy", "stranger"])
def test_a_server_that_is_never_healthy(fake: Fake, mode: str, nothing_left: Callable[[float], bool]) -> None:
    said = r"was not healthy within 1\.5 s and was ended while at: .*startup_timeout_s"
    with pytest.raises(ServerError, match=said), fake(mode, startup_timeout_s=1.5):
        pass
    assert nothing_left(0)


def test_a_port_that_is_taken_is_said_before_the_start(fake: Fake) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} is taken.*port=None"), fake("works", port=port):
            pass
    with fake("works", port=port) as server:
        assert server.endpoint.base_url == f"http://127.0.0.1:{port}/v1"


def test_a_free_port_that_was_lost_is_replaced_once(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    monkeypatch.setenv("LABKIT_TEST_SEEN", str(seen))
    with fake("loses the port once") as server:
        assert seen.exists()
        assert server.metrics().num_requests_running == 0
    seen.unlink()
    with (
        pytest.raises(ServerError, match="Address already in use"),
        fake("loses the port once", port=launch.free_port()),
    ):
        pass


def test_a_server_that_is_killed_is_said(fake: Fake) -> None:
    with fake("works") as server:
        api_server = next(p for p in psutil.Process(server.pid).children(recursive=True) if "works" in p.cmdline())
        api_server.kill()
        with contextlib.suppress(psutil.Error):
            api_server.wait(10)
        server._process.wait(10)
        with pytest.raises(
            ServerError, match=r"vLLM server of tiny has ended \(exit code 137: SIGKILL.*\n.*last lines"
        ):
            server.metrics()
        with pytest.raises(ServerError, match="has ended"):
            server.check()


def test_metrics_that_are_no_metrics(fake: Fake) -> None:
    with fake("torn metrics") as server, pytest.raises(EndpointError, match="cut off"):
        server.metrics()


def test_ctrl_c_while_it_starts(fake: Fake, nothing_left: Callable[[float], bool]) -> None:
    def interrupt(fraction: float, what: str) -> None:
        if what == "worker process":  # its engine has begun, and a worker of its own session
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), fake("never", on_progress=interrupt):
        pass
    assert nothing_left(0)


OWNER = """
import sys
from pathlib import Path
from labkit.serving import vllm
class Fake(vllm.VLLMServer):
    def _command(self, port):
        return (sys.executable, sys.argv[1], sys.argv[2], str(port), "tiny"), {}
vllm.vllm_folder = lambda: Path(sys.argv[1]).parent
with Fake(sys.argv[3], on_progress=lambda fraction, what: print(what, flush=True)) as server:
    print("port", server.endpoint.root.rpartition(":")[2], flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("mode", "until"), [("stuck", "worker process"), ("works", "port (\\d+)")])
def test_an_owner_that_is_killed_leaves_nothing(
    tiny: Path, nothing_left: Callable[[float], bool], mode: str, until: str
) -> None:
    command = [sys.executable, "-c", OWNER, str(HERE / "fake_vllm.py"), mode, str(tiny)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        watchdog = threading.Timer(60, owner.kill)
        watchdog.start()
        assert owner.stdout is not None
        found = next(match for line in owner.stdout if (match := re.match(until, line)))
        owner.kill()
        began = time.monotonic()
        watchdog.cancel()
    assert nothing_left(5 - (time.monotonic() - began))
    if found.groups():
        assert launch.port_is_free(int(found[1]))


def test_what_cannot_be_meant_is_said_at_once(fake: Fake) -> None:
    with pytest.raises(UsageError, match="port lies between"):
        fake("works", port=70000)
    with pytest.raises(UsageError, match="startup_timeout_s must be positive"):
        fake("works", startup_timeout_s=0)
    with pytest.raises(LaunchError, match="has not been started"):
        fake("works").metrics()
