"""launch.run with real processes, real errors and real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist

from labkit import launch
from labkit.errors import DeadlineError, LaunchError, RankError, UsageError
from labkit.launch.failure import Failure, first_failure


def living(marker: str) -> list[int]:
    """Processes whose command line holds the marker."""
    running = (p for p in psutil.process_iter(["cmdline", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE)
    return [process.pid for process in running if marker in " ".join(process.info["cmdline"] or [])]


def gone_within(seconds: float, marker: str) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not living(marker):
            return True
        time.sleep(0.05)
    return False


def test_values_logs_and_a_collective_come_back_by_rank() -> None:
    def add(x: int) -> tuple[int, float]:
        total = torch.ones(3) * dist.get_rank()
        dist.all_reduce(total)
        print(f"rank {dist.get_rank()} of {dist.get_world_size()}")
        return x + dist.get_rank(), total.sum().item()

    told: list[str] = []
    out = launch.run(add, 10, ranks=2, backend="gloo", on_progress=lambda _, message: told.append(message))
    assert out.values == ((10, 3.0), (11, 3.0))
    assert [log.strip() for log in out.logs] == ["rank 0 of 2", "rank 1 of 2"]
    assert 0 < out.startup_s <= out.duration_s
    assert "2 ranks starting" in told[0]
    assert launch.processes() == []


def test_the_first_failing_rank_is_the_one_reported() -> None:
    def fail() -> None:
        if dist.get_rank() == 1:
            raise KeyError("my own mistake")
        dist.all_reduce(torch.ones(1))  # rank 0 loses its peer: a secondary error

    with pytest.raises(RankError, match="rank 1 of 2 raised KeyError: 'my own mistake'") as caught:
        launch.run(fail, ranks=2, backend="gloo")
    assert caught.value.rank == 1
    assert 'raise KeyError("my own mistake")' in caught.value.remote_traceback


def test_a_crash_outranks_the_peers_that_noticed_it() -> None:
    def crash() -> None:
        if dist.get_rank() == 1:
            print("last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        dist.all_reduce(torch.ones(1))

    with pytest.raises(LaunchError, match=r"(?s)rank 1 of 2 was killed by SIGKILL.*last words") as caught:
        launch.run(crash, ranks=2, backend="gloo")
    assert not isinstance(caught.value, RankError)


def test_failures_are_ordered_by_their_clock_and_lost_peers_come_last(tmp_path: Path) -> None:
    import pickle

    def leave(rank: int, at: float, message: str) -> None:
        told = {"at": at, "type": "RuntimeError", "message": message, "traceback": "Traceback"}
        (tmp_path / f"rank-{rank}.error").write_bytes(pickle.dumps(told))

    leave(0, 1.0, "Connection closed by peer")
    leave(2, 3.0, "boom")
    assert first_failure(tmp_path, 4, {3: (-9, 2.0)}) == Failure(rank=3, at=2.0, code=-9)
    assert first_failure(tmp_path, 3, {}).rank == 2


def test_a_rank_that_leaves_without_an_error() -> None:
    with pytest.raises(LaunchError, match="rank 0 of 1 left with exit code 3 and no error"):
        launch.run(lambda: os._exit(3), ranks=1, backend=None)


def test_plain_processes_need_no_torch() -> None:
    out = launch.run(lambda: (os.environ["RANK"], "torch" in sys.modules), ranks=3, backend=None)
    assert out.values == (("0", False), ("1", False), ("2", False))


def test_the_deadline_ends_a_busy_loop_and_its_children() -> None:
    marker = f"labkit-deadline-{os.getpid()}"

    def spin() -> None:
        command = [sys.executable, "-c", f"import time; time.sleep(1000) # {marker}"]
        subprocess.Popen(command, start_new_session=True)
        print("spinning", flush=True)
        while True:
            pass

    with pytest.raises(DeadlineError, match=r"not done within 3 s.*rank 0: spinning"):
        launch.run(spin, ranks=1, backend=None, deadline_s=3)
    assert gone_within(5, marker)
    assert launch.processes() == []


def test_ctrl_c_ends_the_ranks_and_leaves_nothing() -> None:
    marker = f"labkit-ctrl-c-{os.getpid()}"
    timer = threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        launch.run(time.sleep, 1000, ranks=2, backend=None, env={"MARKER": marker})
    timer.join()
    assert gone_within(5, "labkit.launch.worker")
    assert launch.processes() == []


OWNER = """
import subprocess, sys, time
from labkit import launch
def work():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000) # MARK"], start_new_session=True)
    while True: pass
launch.run(work, ranks=2, backend=None)
"""


def test_an_owner_killed_in_the_middle_leaves_no_process(lab_home: Path) -> None:
    marker = f"labkit-orphan-{os.getpid()}"
    owner = subprocess.Popen([sys.executable, "-c", OWNER.replace("MARK", marker)])
    until = time.monotonic() + 30
    while len([pid for pid in living(marker) if pid != owner.pid]) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert launch.processes()
    owner.kill()
    owner.wait()
    assert gone_within(5, marker)
    assert gone_within(1, str(lab_home)) or launch.processes() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ranks": 0}, "at least 1; got 0"),
        ({"ranks": 2.5}, "got 2.5"),
        ({"ranks": 10**6}, "Use at most"),
        ({"on": "mars"}, "got 'mars'"),
        ({"backend": "mpi"}, "got 'mpi'"),
        ({"deadline_s": 0}, "deadline_s must be positive"),
    ],
)
def test_what_is_refused_before_a_process_starts(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        launch.run(lambda: None, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="only a machine without GPUs must refuse nccl")
def test_nccl_without_gpus() -> None:
    with pytest.raises(UsageError, match="nccl needs a GPU a rank"):
        launch.run(lambda: None, backend="nccl")


def test_what_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(UsageError, match="cannot send the function"):
        launch.run(lambda: lock, ranks=1, backend=None)
    with pytest.raises(UsageError, match="cannot send its arguments"):
        launch.run(print, lock, ranks=1, backend=None)
    with pytest.raises(UsageError, match="takes a function; got a int"):
        launch.run(3, ranks=1)  # type: ignore[arg-type]
    with pytest.raises(RankError, match="returned a lock, which cannot be sent back"):
        launch.run(threading.Lock, ranks=1, backend=None)


CELLS = (
    "import torch; w = torch.ones(256, 256, requires_grad=True); (w @ w).sum().backward()",
    "import torch.distributed as dist\nfrom labkit import launch\n"
    "def mean(scale):\n"
    "    w = torch.ones(8, 8, requires_grad=True); (w @ w).sum().backward(); g = w.grad * scale\n"
    "    dist.all_reduce(g); return g.mean().item()\n"
    "print('got', launch.run(mean, 2.0, ranks=2, backend='gloo').values)",
)


def test_it_works_from_a_kernel_that_has_run_a_backward() -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        said: list[str] = []

        def hook(message: dict[str, dict[str, str]]) -> None:
            said.append(message["content"].get("text", "") + "".join(message["content"].get("traceback", "")))

        for cell in CELLS:
            client.execute_interactive(cell, timeout=60, output_hook=hook)
        assert "got (64.0, 64.0)" in "".join(said), said
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
