"""What stands beside a rank on its node, without Ray: it starts it, tells what it leaves, and ends it."""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import labkit
from labkit.launch.ray_rank import RankHost, digest
from labkit.launch.sending import zipped

PACKAGE = Path(labkit.__file__).parent


@pytest.fixture
def host() -> Iterator[RankHost]:
    host = RankHost()
    yield host
    host.close()


def start(host: RankHost, fn: Any, folder: Path, package: bytes | None = None, **changes: Any) -> None:
    setup = {
        "package": str(PACKAGE),
        "scratch": str(folder),
        "sys_path": sys.path,
        "prefix": sys.prefix,
        "installed": [sys.prefix, sys.base_prefix],
        "cwd": str(folder),
        "backend": None,
        "num_threads": 1,
        "sources": {},
        "watch_parent": False,
        "elsewhere": True,
        "host": None,
    }
    env = {"RANK": "0", "WORLD_SIZE": "1"}
    host.start(0, {**setup, **changes}, cloudpickle.dumps((fn, (), {})), package, env, 100.0)


def told(host: RankHost) -> tuple[dict[str, bytes], tuple[int, float]]:
    """Every file of the rank, and how it ended."""
    files: dict[str, bytes] = {}
    until = time.monotonic() + 30
    while time.monotonic() < until:
        reply = host.news({name: len(data) for name, data in files.items()}, 0.1)
        for name, (data, _) in reply["files"].items():
            files[name] = files.get(name, b"") + data
        if reply["ended"] is not None:
            return files, reply["ended"]
    raise AssertionError(files)


def test_a_node_that_has_no_labkit_gets_the_callers(host: RankHost, tmp_path: Path) -> None:
    def whose() -> tuple[str, str]:
        import labkit.stats

        print("here")
        return labkit.stats.__file__, os.getcwd()

    whose.__module__ = "__main__"
    start(host, whose, tmp_path, zipped(PACKAGE), prefix="/another/interpreter", installed=["/"], cwd="/nowhere")
    files, (code, at) = told(host)
    file, cwd = pickle.loads(files["rank-0.value"])
    assert file == str(host.folder / "lib" / "labkit" / "stats.py")
    assert digest(host.folder / "lib" / "labkit") == digest(PACKAGE)
    assert cwd == os.getcwd()
    assert files["rank-0.log"] == b"here\n"
    assert code == 0
    assert abs(at - time.monotonic()) < 60


def test_it_says_where_it_is_and_ends_with_its_host(host: RankHost, tmp_path: Path, marked: Any) -> None:
    def hang() -> None:
        time.sleep(1000)

    hang.__module__ = "__main__"
    start(host, hang, tmp_path)
    assert marked.wait(lambda: (host.folder / "rank-0.ready").exists())
    host.ask_where()
    assert marked.wait(lambda: b" in hang" in (host.folder / "rank-0.stack").read_bytes())
    host.close()
    assert not marked.living()
    assert not host.folder.exists()


def test_what_a_killed_host_left_goes_with_the_next_start(
    host: RankHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, owner in (("labkit-rank-dead", 2**30), ("labkit-rank-alive", os.getpid())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.json").write_text(json.dumps({"owner": owner}))
    start(host, print, tmp_path)
    assert told(host)[1][0] == 0
    assert not (tmp_path / "labkit-rank-dead").exists()
    assert (tmp_path / "labkit-rank-alive").exists()
