"""Ranks forked from one server: as fresh as ranks of their own, ended like them, and none the worse without it."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from labkit import launch
from labkit.errors import LaunchError
from labkit.launch import forked


def who() -> dict[str, object]:
    import numpy as np

    keeper = psutil.Process(os.getppid()).ppid()
    return {
        "server": psutil.Process(keeper).ppid(),
        "pid": os.getpid(),
        "drawn": (random.random(), float(np.random.random())),  # noqa: NPY002 (the global state is what is asked for)
        "dynamo": "torch._dynamo" in sys.modules,
        "word": os.environ.get("WORD"),
        "folder": os.getcwd(),
    }


def loads_dynamo() -> None:
    import torch._dynamo  # noqa: F401


def test_launches_share_a_server_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.getcwd()
    first = launch.run(who, ranks=2, backend="gloo", env={"WORD": "one"}).values
    launch.run(loads_dynamo, ranks=1, backend="gloo")
    monkeypatch.chdir(tmp_path)
    second = launch.run(who, ranks=2, backend="gloo").values
    ranks = first + second
    assert {rank["server"] for rank in ranks} == {forked._server.pid}
    assert len({rank["pid"] for rank in ranks}) == 4
    assert len({draw for rank in ranks for draw in rank["drawn"]}) == 8
    assert [rank["word"] for rank in ranks] == ["one", "one", None, None]
    assert [rank["folder"] for rank in ranks] == [before, before, str(tmp_path), str(tmp_path)]
    assert [rank["dynamo"] for rank in ranks] == [False, False, True, True]
    monkeypatch.setenv("OMP_PROC_BIND", "false")  # read once, when it is loaded
    [other] = launch.run(who, ranks=1, backend="gloo").values
    assert other["server"] not in {rank["server"] for rank in ranks}


def test_a_server_that_is_killed_ends_its_launch_and_is_replaced(marked) -> None:
    def wait() -> None:
        time.sleep(1000)

    def kill() -> None:
        assert marked.wait(lambda: len(marked.living()) == 4)  # keeper, guard and two ranks
        os.kill(forked._server.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(LaunchError, match="ended from outside"):
        launch.run(wait, ranks=2, backend="gloo")
    killer.join()
    assert marked.gone_within(5)
    [rank] = launch.run(who, ranks=1, backend="gloo").values
    assert rank["server"] == forked._server.pid


def test_without_a_server_each_rank_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError("no sockets in this sandbox")

    monkeypatch.setattr("labkit.launch.forked.socket.socketpair", refuse)
    [rank] = launch.run(who, ranks=1, backend="gloo").values
    assert forked._server is None
    assert rank["server"] == os.getpid()  # whose child the keeper is
    assert not rank["dynamo"]
