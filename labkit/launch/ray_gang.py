"""A gang of ranks on a Ray cluster: a place for all or none, one actor each, and what they leave brought home."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import labkit
from labkit.errors import LaunchError
from labkit.launch import ray_rank
from labkit.launch.ranks import defaults, place_in_world
from labkit.launch.ray_place import Place
from labkit.launch.ray_seat import POLL_S, Seat
from labkit.launch.sending import zipped

__all__ = ["Gang"]

PACKAGE = Path(labkit.__file__).parent
SILENT_S = 20.0  # Ray itself takes 15 to be sure that a node has gone
CLOSE_S = 6.0


class Gang:
    """place, start, step until done, close. ``folder`` is the caller's."""

    def __init__(self, ray: Any, folder: Path, setup: dict[str, Any]) -> None:
        self.ray, self.folder, self.setup = ray, folder, setup
        self.ranks: int = setup["ranks"]
        self.spot: Place | None = None
        self.actors: list[Any] = []
        self.seats: list[Seat] = []
        self.released = False

    def place(self) -> None:
        """Wait until the cluster has a place for every rank at once."""
        (self.folder / "stage").write_text("waiting for a place on the cluster")
        self.spot = Place(
            self.ray, ranks=self.ranks, num_threads=self.setup["num_threads"], backend=self.setup["backend"]
        )
        self.setup["backend"] = self.spot.backend
        self.spot.wait(self.folder / "unplaced")

    def start(self) -> None:
        """An actor in every place; ranks counted node by node, so that neighbours sit together."""
        assert self.spot is not None
        (self.folder / "stage").write_text("starting the ranks' hosts")
        ray = self.ray
        ray.cloudpickle.register_pickle_by_value(ray_rank)  # nodes need no labkit of their own
        host = ray.remote(ray_rank.RankHost)
        self.actors = [host.options(**self.spot.options(index)).remote() for index in range(self.ranks)]
        self.setup |= {"package": str(PACKAGE), "digest": ray_rank.digest(PACKAGE)}
        try:
            found = ray.get([actor.who.remote(self.setup) for actor in self.actors])
            seats = [
                Seat(actor=actor, who=who, offset_s=self._offset_s(actor))
                for actor, who in zip(self.actors, found, strict=True)
            ]
            self._start(seats)
        except ray.exceptions.RayActorError as error:
            raise LaunchError(f"A rank's host on the cluster could not be started: {_cause(error)}") from error

    def _start(self, seats: list[Seat]) -> None:
        nodes = list(dict.fromkeys(seat.who["node"] for seat in seats))
        self.seats = sorted(seats, key=lambda seat: nodes.index(seat.who["node"]))
        one_machine = len({seat.who["address"] for seat in seats}) == 1
        self.setup |= {"elsewhere": True, "host": "127.0.0.1" if one_machine else self.seats[0].who["address"]}
        call = self.ray.put((self.folder / "call.pickle").read_bytes())
        package = None if all(seat.who["has_labkit"] for seat in seats) else self.ray.put(zipped(PACKAGE))
        starting = []
        for rank, seat in enumerate(self.seats):
            seat.rank = rank
            here = [other for other in self.seats if other.who["node"] == seat.who["node"]]
            env = {
                **defaults(self.setup["num_threads"], seat.who["loopback" if one_machine else "interface"]),
                **self.setup["env"],
                **place_in_world(rank, here.index(seat), self.ranks, len(here)),
            }
            if seat.who["gpus"]:  # each sees its node's, as torchrun's ranks do: LOCAL_RANK says which is its own
                env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu for other in here for gpu in other.who["gpus"])
            (self.folder / f"rank-{rank}.node").write_text(seat.node)
            lib = None if seat.who["has_labkit"] else package
            starting.append(seat.actor.start.remote(rank, self.setup, call, lib, env, self.setup["deadline_s"]))
        self.ray.get(starting)
        for seat in self.seats:
            seat.ask()

    def _offset_s(self, actor: Any) -> float:
        """Our clock minus the node's, by the quickest of three answers: half its time is the error."""
        tries: list[tuple[float, float]] = []
        for _ in range(3):
            asked = time.monotonic()
            theirs = self.ray.get(actor.clock.remote())
            now = time.monotonic()
            tries.append((now - asked, (now + asked) / 2 - theirs))
        return min(tries)[1]

    def done(self) -> bool:
        return not any(seat.open for seat in self.seats)

    def step(self) -> None:
        """Take what has come within POLL_S."""
        polls = [seat.poll for seat in self.seats if seat.open]
        come, _ = self.ray.wait(polls, num_returns=1, timeout=POLL_S)
        for seat in [seat for seat in self.seats if seat.open and seat.poll in come]:
            try:
                reply = self.ray.get(seat.poll)
            except self.ray.exceptions.ActorUnavailableError as error:
                self._wait_for(seat, _cause(error))
                continue
            except self.ray.exceptions.RayError as error:
                self._lose(seat, _cause(error))
                continue
            seat.away_since = None
            for name in seat.take(reply, self.folder):
                if name == "store.port" and seat.rank == 0:
                    for other in self.seats[1:]:
                        other.actor.hand.remote(name, (self.folder / name).read_bytes())
            if seat.open:
                seat.ask()
        bereft = any(seat.lost_a_peer for seat in self.seats)
        for seat in self.seats:
            if seat.open and bereft and time.monotonic() - seat.asked_at > SILENT_S:
                self._lose(seat, f"it has not answered for {SILENT_S:g} s")
        if not self.released and all(seat.has_value or not seat.open for seat in self.seats[1:]):
            self.released = True
            self.seats[0].actor.hand.remote("all.done", b"")

    def _wait_for(self, seat: Seat, cause: str) -> None:
        """The connection broke: a short trouble of the network, or Ray does not know yet what has gone."""
        seat.away_since = seat.away_since or time.monotonic()
        if not self._node_is_alive(seat) or time.monotonic() - seat.away_since > SILENT_S:
            self._lose(seat, cause)
        else:
            time.sleep(POLL_S)
            seat.ask()

    def _node_is_alive(self, seat: Seat) -> bool:
        return any(node["Alive"] and node["NodeID"] == seat.who["node"] for node in self.ray.nodes())

    def _lose(self, seat: Seat, cause: str) -> None:
        """Its host has gone, with or without the node."""
        with_node = "node has died" in cause or not self._node_is_alive(seat)
        gone = "was lost with its node" if with_node else "was lost: its Ray worker has gone"
        seat.lose(f"{gone} ({cause})", self.folder)

    def ask_where(self) -> None:
        for seat in self.seats:
            if seat.open:
                seat.actor.ask_where.remote()

    def close(self) -> None:
        """End the ranks, then their hosts, then give the place back. What has gone already stops none of it."""
        ending = []
        for actor in self.actors:
            with contextlib.suppress(Exception):
                ending.append(actor.close.remote())
        until = time.monotonic() + CLOSE_S
        for end in ending:  # one by one: of a host that has gone, even waiting may raise
            with contextlib.suppress(Exception):
                self.ray.wait([end], timeout=max(0.0, until - time.monotonic()))
        for actor in self.actors:
            with contextlib.suppress(Exception):
                self.ray.kill(actor)
        if self.spot is not None:
            self.spot.give_back()


def _cause(error: BaseException) -> str:
    """The one sentence of Ray's page of text that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "because" in line or "died" in line or "memory" in line]
    return (told or lines or [type(error).__name__])[0].rstrip(".")
