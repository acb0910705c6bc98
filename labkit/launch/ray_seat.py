"""One rank's actor on a Ray cluster, and what the rank leaves there brought into the launch's folder."""

from __future__ import annotations

import json
import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["POLL_S", "Seat"]

POLL_S = 0.5  # how long a host waits for news before it says that there are none
GROWING = ("log", "stack")  # shown as far as they have come; all else whole or not at all


@dataclass(slots=True, kw_only=True)
class Seat:
    """One rank's actor, and how far its files are here. offset_s: our clock minus its node's."""

    actor: Any
    who: dict[str, Any]
    offset_s: float
    rank: int = -1
    have: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    poll: Any = None
    asked_at: float = 0.0
    away_since: float | None = None
    has_value: bool = False
    lost_a_peer: bool = False
    open: bool = True

    @property
    def node(self) -> str:
        return f"node {self.who['address']} ({self.who['node'][:8]})"

    def ask(self) -> None:
        self.asked_at = time.monotonic()
        self.poll = self.actor.news.remote(self.have, POLL_S)

    def take(self, reply: dict[str, Any], folder: Path) -> list[str]:
        """Keep what came; the names of the files that are here in full now. Closed once the rank has ended."""
        whole = []
        for name, (data, size) in reply["files"].items():
            kind = name.rpartition(".")[2]
            target = folder / (name if kind in GROWING else f"{name}.new")
            with target.open("ab") as file:
                file.write(data)
            self.have[name] = self.have.get(name, 0) + len(data)
            self.sizes[name] = size
            if kind not in GROWING and self.have[name] == size:
                self._keep(target, folder / name, kind)
                whole.append(name)
        if reply["ended"] is not None and self.have == self.sizes:
            code, at = reply["ended"]
            event = {"rank": self.rank, "code": code, "at": at + self.offset_s}
            with (folder / "ended.jsonl").open("a") as notes:
                notes.write(json.dumps(event) + "\n")
            self.open = False
        return whole

    def _keep(self, scratch: Path, file: Path, kind: str) -> None:
        if kind == "error":
            told = pickle.loads(scratch.read_bytes())
            told["at"] += self.offset_s
            self.lost_a_peer = told["lost_a_peer"]
            scratch.write_bytes(pickle.dumps(told))
        self.has_value = self.has_value or kind == "value"
        scratch.replace(file)

    def lose(self, how: str, folder: Path) -> None:
        """Note that nobody there can say any more what became of the rank."""
        self.open = False
        scratch = folder / f"rank-{self.rank}.lost"
        scratch.write_bytes(pickle.dumps({"at": time.monotonic(), "lost": how}))
        scratch.replace(folder / f"rank-{self.rank}.error")
