"""launch.run with real processes: values, logs, errors, refusals."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist

from labkit import launch
from labkit.errors import LaunchError, RankError, UsageError


class Point(NamedTuple):
    x: int
    y: torch.Tensor


def test_values_logs_and_a_collective_come_back_by_rank() -> None:
    def add(x: int, *, scale: float) -> dict[str, object]:
        total = torch.ones(3) * dist.get_rank()
        dist.all_reduce(total)
        print(f"rank {dist.get_rank()} of {dist.get_world_size()}")
        print("and its errors", file=sys.stderr)
        names = ("OMP_NUM_THREADS", "LABKIT_RANK", "LABKIT_WORLD_SIZE", "COLOUR")
        return {
            "point": Point(x + dist.get_rank(), total * scale),
            "big": torch.full((4_000_000,), float(dist.get_rank())),
            "threads": torch.get_num_threads(),
            "environment": [os.environ[name] for name in names],
        }

    told: list[tuple[float, str]] = []
    out = launch.run(
        add,
        10,
        scale=2.0,
        ranks=2,
        backend="gloo",
        num_threads=2,
        env={"COLOUR": "red"},
        on_progress=lambda *tick: told.append(tick),
    )
    for rank, value in enumerate(out.values):
        assert isinstance(value["point"], Point)
        assert (value["point"].x, value["point"].y.tolist()) == (10 + rank, [2.0, 2.0, 2.0])
        assert value["big"].shape == (4_000_000,)
        assert value["big"].unique().tolist() == [rank]
        assert value["threads"] == 2
        assert value["environment"] == ["2", str(rank), "2", "red"]
        assert sorted(out.logs[rank].splitlines()) == ["and its errors", f"rank {rank} of 2"]
    assert 0 < out.startup_s < out.duration_s
    assert told[0] == (0.0, "2 ranks starting")
    assert told[-1][0] == 1.0
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
    assert "worker.py" not in caught.value.remote_traceback
    assert "my own mistake" in caught.value.log


def test_a_crash_outranks_the_peers_that_noticed_it() -> None:
    def crash() -> None:
        if dist.get_rank() == 1:
            print("last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            dist.all_reduce(torch.ones(1))
        except RuntimeError as error:
            raise ValueError("a wrapped consequence") from error

    with pytest.raises(LaunchError, match=r"(?s)rank 1 of 2 was killed by SIGKILL.*last words") as caught:
        launch.run(crash, ranks=2, backend="gloo")
    assert not isinstance(caught.value, RankError)


def test_of_two_real_errors_the_earlier_wins_whatever_it_says() -> None:
    def both() -> None:
        time.sleep(0.0 if os.environ["RANK"] == "1" else 0.3)
        raise ValueError("this peer table is wrong")

    with pytest.raises(RankError, match="rank 1 of 2 raised ValueError: this peer table is wrong"):
        launch.run(both, ranks=2, backend=None)


def test_plain_processes_need_no_torch_and_no_labkit() -> None:
    out = launch.run(
        lambda: (os.environ["RANK"], {"torch", "labkit", "numpy"} & set(sys.modules)), ranks=3, backend=None
    )
    assert out.values == (("0", set()), ("1", set()), ("2", set()))


def test_several_at_once_and_one_within_another() -> None:
    def outer() -> tuple[str, ...]:
        from labkit import launch

        return launch.run(lambda: "inner", ranks=2, backend=None).values

    values = {}

    def one(name: str) -> None:
        values[name] = launch.run(lambda: name, ranks=1, backend=None).values

    threads = [threading.Thread(target=one, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    assert launch.run(outer, ranks=1, backend=None).values == (("inner", "inner"),)
    for thread in threads:
        thread.join()
    assert values == {"a": ("a",), "b": ("b",)}


def test_a_temporary_folder_with_a_strange_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = tmp_path / "a #strange? 100% name"
    strange.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(strange))
    assert launch.run(lambda: dist.get_rank(), ranks=1, backend="gloo", deadline_s=float("inf")).values == (0,)
    assert list(strange.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ranks": 0}, "ranks must be a whole number of at least 1; got 0"),
        ({"ranks": 2.5}, "got 2.5"),
        ({"ranks": True}, "got True"),
        ({"ranks": 10**6}, "Use at most"),
        ({"ranks": 10**6, "backend": None}, "Use at most"),
        ({"on": "mars"}, "got 'mars'. Use \"local\""),
        ({"on": "ray://head"}, '"ray://host:10001"'),
        ({"backend": "mpi"}, "got 'mpi'"),
        ({"deadline_s": 0}, "deadline_s must be a positive number"),
        ({"deadline_s": None}, "deadline_s must be a positive number"),
        ({"deadline_s": float("nan")}, "deadline_s must be a positive number"),
        ({"num_threads": 0}, "num_threads must be a whole number"),
        ({"env": {"A": 1}}, "env takes texts"),
        ({"env": {"A=B": "1"}}, "env takes texts"),
    ],
)
def test_what_is_refused_before_a_process_starts(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        launch.run(lambda: None, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="only a machine without GPUs must refuse nccl")
def test_nccl_without_gpus() -> None:
    with pytest.raises(UsageError, match="nccl needs a GPU a rank"):
        launch.run(lambda: None, backend="nccl")


def test_any_number_of_seconds_is_a_deadline() -> None:
    assert launch.run(lambda: 1, ranks=1, backend=None, deadline_s=np.float32(60)).values == (1,)
