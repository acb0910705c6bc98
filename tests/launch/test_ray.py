"""launch.run on a real Ray cluster of two nodes, and on a Ray of its own: the same values, logs and errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist

from labkit import launch
from labkit.errors import DeadlineError, LaunchError, MissingPackageError, RankError, UsageError
from labkit.launch import ray_address

# Ray gives a client's server half a minute to start, and two nodes are a dozen processes.
pytestmark = pytest.mark.alone
HERE = Path(__file__).parent


class TwoNodes:
    """The cluster of two_nodes.py: 127.0.0.2 and 127.0.0.3, two logical CPUs each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark, self.num_nodes = folder, uuid.uuid4().hex, 2
        client_port = launch.free_port()
        self.client = f"ray://127.0.0.2:{client_port}"
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "two_nodes.py"), str(folder), str(client_port)],
                env={**os.environ, "LABKIT_TEST_CLUSTER": self.mark},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.address = self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # Ray prints there as well
            if line.startswith("answer: "):
                return line.removeprefix("answer: ").strip()
        raise AssertionError((self.folder / "log").read_text())

    def tell(self, order: str) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self._answer()))

    def started_by_ranks(self) -> list[list[str]]:
        """Command lines of guards, ranks and what ranks started: whatever of the cluster is not Ray's."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("LABKIT_TEST_CLUSTER") == self.mark and process.status() != "zombie":
                    line = process.cmdline()
                    if any(part.endswith(("guard.py", "worker.py")) or part == "1000" for part in line):
                        found.append(line)
            except psutil.Error:
                continue
        return found

    def left(self) -> dict[str, object]:
        """What a launch has left on the cluster; empty values if nothing."""
        left: dict[str, object] = {**self.tell("busy"), "processes": self.started_by_ranks()}
        left["folders"] = [
            str(path) for path in self.folder.glob("labkit-*")
        ]  # looked at last: a guard removes it last
        return left

    def is_clean(self) -> bool:
        return not any(self.left().values())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        self.process.wait(60)


@pytest.fixture(scope="module")
def started() -> Iterator[TwoNodes]:
    folder = Path(tempfile.mkdtemp(prefix="lab-ray-", dir="/tmp"))  # short: Ray's sockets live in it
    nodes = TwoNodes(folder)
    yield nodes
    nodes.close()
    assert nodes.started_by_ranks() == []
    shutil.rmtree(folder)


@pytest.fixture
def cluster(started: TwoNodes, marked: Any) -> Iterator[TwoNodes]:
    """Each test leaves it as it was: every CPU free, no placement group, no process or folder of a rank."""
    yield started
    assert marked.wait(started.is_clean, 15), started.left()
    assert launch.processes() == []


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, dict[str, Any]]:
    """``call`` in a thread; what it returned or raised appears in the dict."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = call()
        except Exception as error:
            outcome["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def train(num_steps: int) -> dict[str, Any]:
    """Data parallel by hand: the same model on every rank, each on its own rows, gradients averaged."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    rows = torch.randn(32, 8)
    rank, world_size = dist.get_rank(), dist.get_world_size()
    mine = rows[rank::world_size]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = (model(mine) - mine.sum(1, keepdim=True)).square().mean()
        loss.backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= world_size
        optimizer.step()
        dist.all_reduce(loss.data)
        losses.append(loss.item() / world_size)
    print(f"rank {rank} of {world_size} trained")
    names = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LABKIT_RANK", "LABKIT_WORLD_SIZE", "OMP_NUM_THREADS", "COLOUR")
    return {"losses": losses, "environment": [os.environ[name] for name in names], "cwd": os.getcwd()}


def test_a_plan_made_here_runs_on_both_nodes_by_one_argument(
    cluster: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    told: list[tuple[float, str]] = []
    plan: dict[str, Any] = {"ranks": 4, "backend": "gloo", "env": {"COLOUR": "red"}}
    here = launch.run(train, 5, on="local", **plan)
    there = launch.run(train, 5, on="ray", on_progress=lambda *tick: told.append(tick), **plan)
    assert [value["losses"] for value in there.values] == [value["losses"] for value in here.values]
    assert there.logs == here.logs == tuple(f"rank {rank} of 4 trained\n" for rank in range(4))
    for rank, value in enumerate(there.values):  # two ranks a node, counted node by node
        assert value["environment"] == [str(rank), str(rank % 2), "2", str(rank), "4", "1", "red"]
        assert value["cwd"] == os.getcwd()
    assert 0 < there.startup_s < there.duration_s
    assert told[0] == (0.0, "4 ranks starting")
    assert (0.0, "connecting to Ray, for 4 ranks") in told
    assert told[-1][0] == 1.0
    assert "ray" not in sys.modules


def test_a_gang_waits_for_its_place_and_errors_come_back(cluster: TwoNodes, tmp_path: Path) -> None:
    release = tmp_path / "release"

    def fail() -> None:
        print("holding its place", flush=True)
        while not release.exists():
            time.sleep(0.05)
        if os.environ["RANK"] == "3":
            raise KeyError("my own mistake")
        time.sleep(1000)

    def die() -> None:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        if os.environ["RANK"] == "1":
            print("last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1000)

    def once_it_waits(fraction: float, message: str) -> None:
        if message.startswith("waiting for a place"):
            release.touch()

    holding = threading.Event()
    thread, outcome = in_thread(
        lambda: launch.run(
            fail,
            ranks=4,
            backend=None,
            on=cluster.address,
            on_progress=lambda fraction, message: holding.set() if "running" in message else None,
        )
    )
    assert holding.wait(90)
    with pytest.raises(
        LaunchError, match=r"(?s)rank 1 of 2 on node 127\.0\.0\.\d \(.*\) was killed by SIGKILL.*last w"
    ):
        launch.run(die, ranks=2, backend=None, on=cluster.address, on_progress=once_it_waits)
    thread.join()
    assert release.exists()
    error = outcome["error"]
    assert isinstance(error, RankError)
    assert error.rank == 3
    assert str(error).startswith("rank 3 of 4 on node 127.0.0.")
    assert 'raise KeyError("my own mistake")' in error.remote_traceback
    assert "worker.py" not in error.remote_traceback
    assert error.log.startswith("holding its place\nTraceback")


def test_at_the_deadline_ranks_say_where_they_are_and_a_gang_what_it_wanted(
    cluster: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> None:
        print("turning", flush=True)
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        while True:
            pass

    clock = types.SimpleNamespace(late_s=0.0, sleep=time.sleep, monotonic=lambda: time.monotonic() + clock.late_s)
    monkeypatch.setattr(sys.modules["labkit.launch.run"], "time", clock)
    hanging = threading.Event()
    thread, outcome = in_thread(
        lambda: launch.run(
            hang,
            ranks=1,
            backend=None,
            num_threads=2,
            on=cluster.address,
            deadline_s=400,
            on_progress=lambda fraction, message: hanging.set() if "running" in message else None,
        )
    )
    assert hanging.wait(90)
    waiting_since: list[float] = []

    def pass_the_deadline_after_a_while(fraction: float, message: str) -> None:
        if message.startswith("waiting for a place"):
            waiting_since.append(time.monotonic())
            if time.monotonic() - waiting_since[0] > 2.0:
                clock.late_s = 500.0

    with pytest.raises(DeadlineError) as caught:
        launch.run(print, ranks=3, on=cluster.address, deadline_s=400, on_progress=pass_the_deadline_after_a_while)
    assert "3 ranks, no place on the cluster within 400 s" in str(caught.value)
    assert "They want 3 places of 1 CPU, 230.0 MiB of memory each" in str(caught.value)
    assert "The cluster has 2 nodes (127.0.0.2 has 2 CPU" in str(caught.value)
    assert "; free are 2 CPU" in str(caught.value)
    thread.join()
    error = outcome["error"]
    assert isinstance(error, DeadlineError)
    assert "1 rank, not done within 400 s" in str(error)
    assert "rank 0 on node 127.0.0." in str(error)
    assert ": in hang, line" in str(error)
    assert "of test_ray.py; printed last: turning" in str(error)


def test_a_lost_worker_is_named_though_its_peer_failed_first(cluster: TwoNodes) -> None:
    """By the address of a client, as from a machine outside of the cluster."""

    def lose() -> None:
        import psutil

        print("before", flush=True)
        if dist.get_rank() == 1:
            host = psutil.Process().parents()[2]  # above the guard and its keeper
            assert "RankHost" in host.name() + " ".join(host.cmdline())
            host.kill()
            time.sleep(1000)
        dist.all_reduce(torch.ones(1))

    with pytest.raises(LaunchError, match=r"(?s)rank 1 of 2 on node 127\.0\.0\.\d \(.*\) was lost: its Ray worker has"):
        launch.run(lose, ranks=2, backend="gloo", on=cluster.client)


def test_ctrl_c_takes_everything_off_the_cluster(cluster: TwoNodes) -> None:
    def interrupt(fraction: float, message: str) -> None:
        if message.startswith("running"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        launch.run(time.sleep, 1000, ranks=2, backend=None, on=cluster.address, on_progress=interrupt)


def test_a_lost_node_is_named(cluster: TwoNodes) -> None:
    """The last one on this cluster: it has one node afterwards."""

    def remove(fraction: float, message: str) -> None:
        if message.startswith("running") and cluster.num_nodes == 2:
            cluster.num_nodes = 1
            cluster.tell("remove")

    def wait() -> None:
        if os.environ["LABKIT_RANK"] == "0":
            time.sleep(1)
        dist.barrier()
        time.sleep(1000)

    with pytest.raises(LaunchError, match=r"rank \d of 2 on node 127\.0\.0\.3 \(.*\) was lost with its node"):
        launch.run(wait, ranks=2, num_threads=2, backend="gloo", on=cluster.address, on_progress=remove)
    for spec in cluster.folder.glob("labkit-rank-*/spec.json"):  # a dead node's own temporary files
        if not psutil.pid_exists(json.loads(spec.read_text())["owner"]):
            shutil.rmtree(spec.parent)


OWNER = """
import sys
from pathlib import Path
from labkit import launch

def rank(folder):
    import os, time
    Path(folder, os.environ["RANK"]).touch()
    time.sleep(1000)

launch.run(rank, sys.argv[1], ranks=2, backend=None, on="ray")
"""


def test_a_ray_of_its_own_dies_with_its_owner(marked: Any, tmp_path: Path) -> None:
    before = set(Path("/tmp").glob("labkit-ray-*"))
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], env=environment)
    try:
        assert marked.wait(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), 120)
        assert any("raylet" in " ".join(process.cmdline()) for process in marked.living())
        (info,) = launch.processes()
        assert info.name == "rank on 2 ranks, Ray of its own"
    finally:
        owner.kill()
        owner.wait()
    assert marked.gone_within(5), [process.cmdline() for process in marked.living()]
    assert marked.wait(lambda: set(Path("/tmp").glob("labkit-ray-*")) <= before, 5)


def test_nobody_at_the_address() -> None:
    nobody = f"127.0.0.1:{launch.free_port()}"
    for address in (nobody, f"ray://{nobody}"):
        with pytest.raises(LaunchError, match=f"Ray is not reachable at {address}: Connection refused"):
            launch.run(print, on=address)
    with pytest.raises(LaunchError, match=rf"{nobody} \(RAY_ADDRESS\)"):
        ray_address.ray_address("ray", {"RAY_ADDRESS": nobody})
    with pytest.raises(UsageError, match="RAY_ADDRESS must be"):
        ray_address.ray_address("ray", {"RAY_ADDRESS": "the other one"})


def test_somebody_else_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and says nothing."""
    import socket

    monkeypatch.setattr(sys.modules["labkit.launch.ray_ranks"], "CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(LaunchError, match=f"Something answers at {address}, but no connection to Ray"):
            launch.run(print, on=address)


def test_which_ray_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    nowhere = {"RAY_TMPDIR": str(tmp_path)}
    assert ray_address.ray_address("ray", nowhere) is None
    assert ray_address.ray_address("ray", {"RAY_ADDRESS": "local"}) is None
    with pytest.raises(LaunchError, match="RAY_ADDRESS is auto, but no Ray runs here"):
        ray_address.ray_address("ray", {**nowhere, "RAY_ADDRESS": "auto"})
    (tmp_path / "ray").mkdir()
    note = tmp_path / "ray" / "ray_current_cluster"
    note.write_text(f"127.0.0.1:{launch.free_port()}")  # of one that has gone
    assert ray_address.ray_address("ray", nowhere) is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        note.write_text(address)
        assert ray_address.ray_address("ray", nowhere) == address
    context = types.SimpleNamespace(gcs_address="10.0.0.1:6379")
    ours = types.SimpleNamespace(__spec__="ours", is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ours)
    assert ray_address.ray_address("ray", {"RAY_ADDRESS": "10.0.0.2:6379"}) == "10.0.0.1:6379"


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"launch\.run\(on='ray'\) needs the package ray"):
        launch.run(print, on="ray")
