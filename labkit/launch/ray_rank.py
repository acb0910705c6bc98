"""What stands beside a rank on its node: a Ray actor that starts it under a guard of its own, and tells what it leaves.

The rank is the same fresh process as everywhere (worker.py), not the actor, so it can be asked where it is, be ended
with all that it started, and keep the interpreter as long as it likes. When the actor dies, or its node, or the job,
the guard ends the rank. Sent to the nodes by value: only the standard library, and what Ray itself brings.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["RankHost", "digest"]

KINDS = ("log", "stack", "ready", "value", "error")
CHUNK_BYTES = 8 * 2**20
TICK_S = 0.03
GRACE_S = 2.0
FORCE_S = 6.0


class RankHost:
    """One rank's host. Every method returns soon; Ray calls them one after another."""

    def who(self, setup: dict[str, Any]) -> dict[str, Any]:
        """Where it is, what it has, and whether the caller's labkit lies here in the same place."""
        import psutil

        ray: Any = importlib.import_module("ray")
        address = ray.util.get_node_ip_address()
        names = [
            name
            for name, addresses in psutil.net_if_addrs().items()
            if any(each.family in (socket.AF_INET, socket.AF_INET6) and each.address == address for each in addresses)
        ]
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        package = Path(setup["package"])
        same = sys.prefix == setup["prefix"] and package.is_dir() and digest(package) == setup["digest"]
        return {
            "node": ray.get_runtime_context().get_node_id(),
            "address": address,
            "interface": names[0] if names and not address.startswith("127.") else loopback,
            "loopback": loopback,
            "gpus": [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu],
            "has_labkit": same,
        }

    def clock(self) -> float:
        return time.monotonic()

    def start(
        self,
        rank: int,
        setup: dict[str, Any],
        call: bytes,
        package: bytes | None,
        env: dict[str, str],
        deadline_s: float,
    ) -> None:
        _sweep()
        self.rank = rank
        self.folder = Path(tempfile.mkdtemp(prefix="labkit-rank-", dir=setup["scratch"]))
        labkit = Path(setup["package"])
        if package is not None:
            zipfile.ZipFile(io.BytesIO(package)).extractall(self.folder / "lib")
            labkit = self.folder / "lib" / "labkit"
        (self.folder / "call.pickle").write_bytes(call)
        (self.folder / "setup.pickle").write_bytes(pickle.dumps({**setup, "sys_path": _path(setup, labkit.parent)}))
        child = {
            "argv": [sys.executable, "-P", str(labkit / "launch" / "worker.py"), str(self.folder)],
            "env": {**os.environ, **env},
            "cwd": setup["cwd"] if os.path.isdir(setup["cwd"]) else None,
            "log": str(self._file("log")),
        }
        spec = {
            "owner": os.getpid(),
            "children": [child],
            "grace_s": GRACE_S,
            "deadline_s": deadline_s,
            "portable": sys.platform != "linux",
            "status": str(self.folder / "status.jsonl"),
            "scratch": [str(self.folder)],
            "stay": True,  # Ray may kill us before we have closed, or in the middle of it
        }
        (self.folder / "spec.json").write_text(json.dumps(spec))
        self.guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(labkit / "launch" / "guard.py"), str(self.folder / "spec.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )

    def news(self, have: dict[str, int], wait_s: float) -> dict[str, Any]:
        """What the rank has left beyond the first ``have[name]`` bytes of each file, (bytes, size) by name, as soon as
        there is something, at the latest after wait_s; and how it ended. Log lines alone are not worth a reply."""
        until = time.monotonic() + wait_s
        while True:
            ended = self._ended()  # before the files: what it left is then seen
            late = ended is not None or time.monotonic() >= until
            found = {}
            for name in ("store.port", *(f"rank-{self.rank}.{kind}" for kind in KINDS)):
                file = self.folder / name
                size = file.stat().st_size if file.exists() else -1
                if size > have.get(name, -1):
                    with file.open("rb") as opened:
                        opened.seek(max(0, have.get(name, -1)))
                        found[name] = (opened.read(CHUNK_BYTES), size)
            if late or set(found) - {f"rank-{self.rank}.log"}:
                return {"files": found, "ended": ended}
            time.sleep(TICK_S)

    def _ended(self) -> tuple[int, float] | None:
        """Exit code or minus the signal, and when by this machine's clock."""
        guard_gone = self.guard.poll() is not None
        status = self.folder / "status.jsonl"
        for line in status.read_text().splitlines() if status.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if "failed" in event:
                    raise OSError(event["failed"])
                return int(event["code"]), float(event["at"])
        return (-9, time.monotonic()) if guard_gone else None  # with its guard, from outside

    def hand(self, name: str, data: bytes) -> None:
        """Leave a file for the rank; whole or not at all."""
        (self.folder / "handed.new").write_bytes(data)
        (self.folder / "handed.new").replace(self.folder / name)

    def ask_where(self) -> None:
        assert self.guard.stdin is not None
        with contextlib.suppress(OSError):
            self.guard.stdin.write(b"s")

    def close(self) -> None:
        """End the rank and all that it started; return when it has gone."""
        if hasattr(self, "guard"):
            assert self.guard.stdin is not None
            self.guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.guard.wait(GRACE_S + FORCE_S)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, kind: str) -> Path:
        return self.folder / f"rank-{self.rank}.{kind}"


def _sweep() -> None:
    """Remove what is left of ranks whose host has gone, and with it the guard that would have done so: when a raylet is
    killed, Ray's workers end with it, and kill their children first."""
    import psutil

    for spec in Path(tempfile.gettempdir()).glob("labkit-rank-*/spec.json"):
        with contextlib.suppress(OSError, ValueError):
            if not psutil.pid_exists(json.loads(spec.read_text())["owner"]):
                shutil.rmtree(spec.parent, ignore_errors=True)


def _path(setup: dict[str, Any], lab: Path) -> list[str]:
    """The caller's sys.path, as far as it is here. Of another interpreter only the projects, not what is installed."""
    theirs = [path for path in setup["sys_path"] if os.path.exists(path)]
    if sys.prefix != setup["prefix"]:
        theirs = [path for path in theirs if not path.startswith(tuple(setup["installed"]))]
    return theirs if str(lab) in theirs else [str(lab), *theirs]


def digest(package: Path) -> str:
    """What tells one version of a package's code from another."""
    found = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        found.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()
