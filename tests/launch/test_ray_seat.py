"""What comes from a rank's host in pieces, put together in the launch's folder; and a gang that no wait can place."""

from __future__ import annotations

import json
import pickle
import types
from pathlib import Path

import pytest

from labkit.errors import LaunchError, UsageError
from labkit.launch.failure import first_failure, raise_failure
from labkit.launch.ray_place import Place
from labkit.launch.ray_seat import Seat


def seat(offset_s: float = 0.0) -> Seat:
    return Seat(actor=None, who={"address": "10.0.0.2", "node": "0123456789abcdef"}, offset_s=offset_s, rank=1)


def test_a_value_is_there_whole_or_not_at_all_and_logs_as_far_as_they_came(tmp_path: Path) -> None:
    one = seat(offset_s=100.0)
    first = {"rank-1.value": (b"ab", 5), "rank-1.log": (b"x\n", 4)}
    assert one.take({"files": first, "ended": (0, 7.0)}, tmp_path) == []
    assert not (tmp_path / "rank-1.value").exists()
    assert (tmp_path / "rank-1.log").read_bytes() == b"x\n"
    assert one.open
    assert one.have == {"rank-1.value": 2, "rank-1.log": 2}
    rest = {"rank-1.value": (b"cde", 5), "rank-1.log": (b"y\n", 4)}
    assert one.take({"files": rest, "ended": (0, 7.0)}, tmp_path) == ["rank-1.value"]
    assert (tmp_path / "rank-1.value").read_bytes() == b"abcde"
    assert (tmp_path / "rank-1.log").read_bytes() == b"x\ny\n"
    assert json.loads((tmp_path / "ended.jsonl").read_text()) == {"rank": 1, "code": 0, "at": 107.0}
    assert one.has_value
    assert not one.open


def test_an_error_is_told_by_our_clock(tmp_path: Path) -> None:
    one = seat(offset_s=-50.0)
    told = pickle.dumps({"at": 80.0, "type": "E", "message": "m", "traceback": "t", "lost_a_peer": True})
    assert one.take({"files": {"rank-1.error": (told, len(told))}, "ended": None}, tmp_path) == ["rank-1.error"]
    assert one.lost_a_peer
    assert first_failure(tmp_path, 2, {}).at == 30.0


def test_who_was_lost_comes_before_who_noticed(tmp_path: Path) -> None:
    told = {"at": 0.0, "type": "E", "message": "m", "traceback": "t", "lost_a_peer": True}
    (tmp_path / "rank-0.error").write_bytes(pickle.dumps(told))
    (tmp_path / "rank-1.node").write_text(seat().node)
    (tmp_path / "rank-1.log").write_text("last words\n")
    seat().lose("was lost with its node (power)", tmp_path)
    expected = (
        r"rank 1 of 2 on node 10\.0\.0\.2 \(01234567\) was lost with its node \(power\)\. The end of its log:\nlast w"
    )
    with pytest.raises(LaunchError, match=expected):
        raise_failure(first_failure(tmp_path, 2, {}), 2, tmp_path)


def test_more_ranks_than_the_clusters_memory_holds() -> None:
    ray = types.SimpleNamespace(cluster_resources=lambda: {"CPU": 1000.0, "memory": float(2**30)})
    with pytest.raises(UsageError, match=r"5 ranks need about 1\.1 GiB .*; the cluster has 1\.0 GiB\. Use at most 4\."):
        Place(ray, ranks=5, num_threads=1, backend="gloo")
    assert Place(ray, ranks=4, num_threads=3, backend="auto").bundle["CPU"] == 3


def test_nccl_where_every_rank_can_have_a_gpu() -> None:
    ray = types.SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0, "memory": 2.0**40})
    assert Place(ray, ranks=2, num_threads=1, backend="auto").backend == "nccl"
    assert Place(ray, ranks=2, num_threads=1, backend="auto").bundle["GPU"] == 1
    assert Place(ray, ranks=3, num_threads=1, backend="auto").backend == "gloo"
    assert Place(ray, ranks=3, num_threads=1, backend=None).backend is None
