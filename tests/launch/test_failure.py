"""Which rank is blamed, from what the ranks left; and where those are that left nothing."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from labkit.errors import LaunchError
from labkit.launch.failure import Failure, first_failure, has_failed, raise_failure
from labkit.launch.whereabouts import whereabouts
from labkit.launch.worker import _lost_a_peer


def leave(folder: Path, rank: int, at: float, *, lost_a_peer: bool = False) -> None:
    told = {"at": at, "type": "RuntimeError", "message": "m", "traceback": "Traceback", "lost_a_peer": lost_a_peer}
    (folder / f"rank-{rank}.error").write_bytes(pickle.dumps(told))


def test_by_the_clock_and_lost_peers_last(tmp_path: Path) -> None:
    leave(tmp_path, 0, 1.0, lost_a_peer=True)
    leave(tmp_path, 2, 3.0)
    assert first_failure(tmp_path, 4, {3: (-9, 2.0)}) == Failure(rank=3, at=2.0, code=-9)
    assert first_failure(tmp_path, 3, {}).rank == 2
    leave(tmp_path, 1, 2.5)
    assert first_failure(tmp_path, 3, {}).rank == 1


def test_if_all_lost_a_peer_the_earliest(tmp_path: Path) -> None:
    leave(tmp_path, 0, 2.0, lost_a_peer=True)
    leave(tmp_path, 1, 1.0, lost_a_peer=True)
    assert first_failure(tmp_path, 2, {}).rank == 1


def test_who_has_failed(tmp_path: Path) -> None:
    (tmp_path / "rank-0.value").touch()
    (tmp_path / "rank-1.error").touch()
    assert [has_failed(tmp_path, rank, {0: (0, 1.0)}) for rank in (0, 1, 2)] == [False, True, False]
    assert has_failed(tmp_path, 0, {0: (-11, 1.0)})
    assert has_failed(tmp_path, 2, {2: (0, 1.0)})


def test_a_signal_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"rank 0 of 2 was killed by signal 40, before.*\n\(it printed nothing\)"):
        raise_failure(Failure(rank=0, at=0.0, code=-40), 2, tmp_path)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), True),
        (ValueError("connection closed by peer"), False),
        (RuntimeError("op.preamble.length <= op.nbytes. 8 vs 4"), False),
    ],
)
def test_what_counts_as_a_lost_peer(error: Exception, lost: bool) -> None:
    assert _lost_a_peer(error) is lost
    wrapped = KeyError("later")
    wrapped.__cause__ = error
    assert _lost_a_peer(wrapped) is lost
    error.__context__ = wrapped  # a circle
    assert _lost_a_peer(wrapped) is lost


def test_where_ranks_are(tmp_path: Path) -> None:
    for rank in (0, 1, 2):
        (tmp_path / f"rank-{rank}.ready").touch()
    (tmp_path / "rank-0.value").touch()
    (tmp_path / "rank-0.log").write_text("one\ntwo\n")
    (tmp_path / "rank-1.stack").write_text(
        'Current thread 0x00007f (most recent call first):\n  File "/tmp/ipykernel_7/1.py", line 3 in step\n'
        '  File "/tmp/ipykernel_7/1.py", line 9 in train\n'
    )
    assert whereabouts(tmp_path, 4).splitlines() == [
        "  rank 0: done; printed last: two",
        "  rank 1: in step, line 3; printed nothing",
        "  rank 2: running, nobody knows where; printed nothing",
        "  rank 3: still starting, or waiting for the others to join; printed nothing",
    ]
