"""The ranks of one launch on a Ray cluster, as their caller sees them: one guarded process here, which speaks with Ray.

Ray never enters the caller's process: nothing of it is printed, set or left there, and where it was started for the
launch all of it stands below our guard. The process (ray_driver.py) brings what the ranks leave on their nodes into the
launch's folder, as local ranks leave it there themselves; so values, errors and deadlines are read as for local ones.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import LaunchError
from labkit.launch.guarded import Guarded
from labkit.launch.ranks import Ranks

__all__ = ["RayRanks"]

DRIVER = Path(__file__).parent / "ray_driver.py"
CONNECT_S = 30.0  # Ray alone would go on for minutes
CLIENT_S = 60.0  # the head starts a process for every client
CLOSE_S = 8.0  # for the driver to end what it has on the cluster
OWN_CLOSE_S = 1.0  # where all of it is below our guard, there is nothing to say goodbye to
LOG_LINES = 20


class RayRanks(Ranks):
    """address: the cluster; None starts a Ray on this machine, for this launch alone."""

    stack_s = 2.0
    others_s = 25.0  # a node that goes away is noticed by the other ranks long before Ray is sure

    def __init__(
        self, folder: Path, *, address: str | None, ranks: int, name: str, deadline_s: float, portable: bool
    ) -> None:
        self.folder, self.ranks, self.address = folder, ranks, address
        # Ray's sockets live in it, and a socket's path has at most 107 letters.
        self._own = (
            None
            if address
            else tempfile.TemporaryDirectory(prefix="labkit-ray-", dir="/tmp", ignore_cleanup_errors=True)
        )
        self._session = Path(self._own.name) if self._own else None
        self._connecting_since: float | None = None
        child = {
            "argv": [sys.executable, "-P", str(DRIVER), str(folder), address or "", str(self._session or "")],
            "env": _environment(address),
            "cwd": None,
            "log": str(folder / "ray-driver.log"),
        }
        Guarded.__init__(
            self,
            [child],
            name=f"{name}, Ray {f'at {address}' if address else 'of its own'}",
            kind="launch",
            deadline_s=deadline_s,
            grace_s=CLOSE_S if address else OWN_CLOSE_S,
            scratch=[folder, *([self._session] if self._session else [])],
            portable=portable,
        )

    def setup(self, env: Mapping[str, str]) -> dict[str, Any]:
        """What the driver and the ranks' hosts must know beyond what a local rank does."""
        return {
            "ranks": self.ranks,
            "env": dict(env),
            "scratch": str(self._session) if self._session else None,  # its nodes' temporary folders, of themselves
            "cwd": os.getcwd(),
            "prefix": sys.prefix,
            "installed": sorted({*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix}),
        }

    def ended(self) -> dict[int, tuple[int, float]]:
        """By rank, as the driver noted it. Raises what the driver could not do."""
        driver = super().ended()  # before the notes, so that a driver that has gone has written its last
        if (self.folder / "trouble").exists():
            raise pickle.loads((self.folder / "trouble").read_bytes())
        notes = self.folder / "ended.jsonl"
        lines = notes.read_text().splitlines(keepends=True) if notes.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        ended = {int(event["rank"]): (int(event["code"]), float(event["at"])) for event in events}
        if driver and len(ended) < self.ranks:
            raise LaunchError(f"The process that spoke with Ray has gone. The end of its log:\n{self._log_tail()}")
        self._not_for_ever()
        return ended

    def _not_for_ever(self) -> None:
        if self.stage() != "connecting to Ray" or self.address is None:
            self._connecting_since = None
            return
        now = time.monotonic()
        self._connecting_since = self._connecting_since or now
        patience_s = CLIENT_S if self.address.startswith("ray://") else CONNECT_S
        if now - self._connecting_since > patience_s:
            raise LaunchError(
                f"Something answers at {self.address}, but no connection to Ray came about within {patience_s:g} s. "
                "Is that the port of a Ray of the same version, and this machine a node of that cluster? "
                f'From elsewhere use "ray://host:10001". The end of the log:\n{self._log_tail()}'
            )

    def stage(self) -> str:
        return _text(self.folder / "stage")

    def unplaced(self) -> str:
        return _text(self.folder / "unplaced")

    def _log_tail(self) -> str:
        return "\n".join(_text(self.folder / "ray-driver.log").splitlines()[-LOG_LINES:]) or "(it printed nothing)"

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._own is not None:
                self._own.cleanup()


def _environment(address: str | None) -> dict[str, str]:
    """The driver's: as ours, but Ray reports nothing to its makers, and takes no other address than the one given."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "0"}
    environment.pop("RAY_ADDRESS", None)
    if address is None:  # what other users of this machine do not know, and Ray need not keep in the home folder
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(32).hex()}
    return environment


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
