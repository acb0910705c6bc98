"""How ranks end that do not simply return: deadlines, exits, Ctrl-C, `stop`; with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
import torch
import torch.distributed as dist

from labkit import launch
from labkit.errors import DeadlineError, LaunchError, RankError


def start_a_sleeper() -> None:
    subprocess.Popen(["sleep", "1000"], start_new_session=True)


start_a_sleeper.__module__ = "__main__"  # as of a cell: it travels whole, and ranks need not import this file


def test_a_hung_collective_is_ended_at_the_deadline_and_says_where(marked, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> None:
        if dist.get_rank() == 0:
            print("waiting for the other", flush=True)
            start_a_sleeper()
            dist.all_reduce(torch.ones(1))
        start_a_sleeper()
        while True:
            pass

    clock = types.SimpleNamespace(late_s=0.0, sleep=time.sleep, monotonic=lambda: time.monotonic() + clock.late_s)
    monkeypatch.setattr(sys.modules["labkit.launch.run"], "time", clock)

    def pass_the_deadline_once_both_hang(fraction: float, message: str) -> None:
        if len(marked.sleepers()) == 2:
            time.sleep(1.0)  # from the sleeper into the collective
            clock.late_s = 500.0

    with pytest.raises(DeadlineError) as caught:
        launch.run(hang, ranks=2, backend="gloo", deadline_s=400, on_progress=pass_the_deadline_once_both_hang)
    assert "2 ranks, not done within 400 s" in str(caught.value)
    assert "rank 0: in hang, line" in str(caught.value)
    assert "of test_ending.py (in all_reduce); printed last: waiting for the other" in str(caught.value)
    assert "rank 1: in hang, line" in str(caught.value)
    assert not marked.living()
    assert launch.processes() == []


def test_a_deadline_that_is_really_reached(marked) -> None:
    with pytest.raises(DeadlineError, match=r"1 rank, not done within 0\.5 s"):
        launch.run(time.sleep, 1000, ranks=1, backend=None, deadline_s=0.5)
    assert not marked.living()


@pytest.mark.parametrize("code", [3, 0])
def test_a_rank_that_leaves_before_its_function_returned(code: int, marked) -> None:
    def leave() -> None:
        start_a_sleeper()
        if os.environ["RANK"] == "1":
            print("leaving", flush=True)
            os._exit(code)
        time.sleep(1000)

    with pytest.raises(LaunchError, match=rf"(?s)rank 1 of 2 left with exit code {code} and no error.*leaving"):
        launch.run(leave, ranks=2, backend=None)
    assert not marked.living()


def test_an_exit_that_python_sees_is_an_error_of_its_own() -> None:
    with pytest.raises(RankError, match="rank 0 of 1 raised SystemExit: 0"):
        launch.run(sys.exit, 0, ranks=1, backend=None)


def test_a_rank_that_dies_after_it_has_returned() -> None:
    def late() -> None:
        import atexit

        atexit.register(os._exit, 5)

    with pytest.raises(LaunchError, match="exit code 5 and no error, after its function had returned"):
        launch.run(late, ranks=1, backend=None)


def test_what_aborts_when_the_interpreter_is_taken_down_undoes_no_value() -> None:
    def end_badly() -> str:
        import builtins

        class Native:
            def __del__(self) -> None:
                os.abort()

        builtins.kept = Native()
        print("done")
        return "value"

    out = launch.run(end_badly, ranks=1, backend=None)
    assert out.values == ("value",)
    assert out.logs == ("done\n",)


def test_what_a_rank_leaves_behind_ends_with_the_launch(marked) -> None:
    launch.run(start_a_sleeper, ranks=2, backend=None)
    assert not marked.living()


def test_ctrl_c_ends_the_ranks_and_leaves_nothing(marked) -> None:
    def interrupt() -> None:
        assert marked.wait(lambda: len(marked.sleepers()) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    def busy() -> None:
        start_a_sleeper()
        while True:
            pass

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        launch.run(busy, ranks=2, backend=None)
    thread.join()
    assert not marked.living()
    assert launch.processes() == []


def test_a_stop_from_another_terminal(marked) -> None:
    def stop() -> None:
        assert marked.wait(lambda: marked.sleepers())
        launch.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(LaunchError, match="ended from outside"):
        launch.run(lambda: (start_a_sleeper(), time.sleep(1000)), ranks=1, backend=None)
    thread.join()


def test_an_error_of_the_callers_own_progress_ends_the_ranks(marked) -> None:
    def broken(fraction: float, message: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        launch.run(time.sleep, 1000, ranks=1, backend=None, on_progress=broken)
    assert not marked.living()


def test_without_what_only_linux_has(marked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank then watches its guard by itself."""
    monkeypatch.setattr(sys.modules["labkit.launch.run"], "PORTABLE", True)
    assert launch.run(lambda: os.getpgid(0) == os.getpid(), ranks=2, backend=None).values == (True, True)

    def kill_the_guard() -> None:
        assert marked.wait(lambda: len(marked.sleepers()) == 2)
        (info,) = launch.processes()
        for sleeper in marked.sleepers():
            sleeper.kill()  # out of its reach, without /proc
        guard = next(p for p in marked.living() if p.ppid() == info.pid)
        guard.kill()

    thread = threading.Thread(target=kill_the_guard)
    thread.start()
    with pytest.raises(LaunchError, match="ended from outside"):
        launch.run(lambda: (start_a_sleeper(), time.sleep(1000)), ranks=2, backend=None)
    thread.join()
    assert marked.gone_within(5)
