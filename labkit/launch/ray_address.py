"""Which Ray is meant, and whether it is there: asked before anything starts, since Ray itself retries for a minute."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import LaunchError, MissingPackageError, UsageError

__all__ = ["ADDRESS", "ray_address"]

ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>\[[0-9a-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})", re.ASCII)
REACH_S = 3.0


def ray_address(on: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The address of the Ray that ``on`` means; None when there is none and one is to be started.

    "ray" is, in this order: the one that this process is connected to, RAY_ADDRESS, the one that `ray start` has
    started on this machine, a new one. MissingPackageError without Ray; LaunchError when nobody answers there.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingPackageError("ray", needed_for=f"launch.run(on={on!r})")
    if on != "ray":
        return _reached(on, on)
    connected = _connected()
    if connected:
        return connected
    named = environment.get("RAY_ADDRESS", "")
    if named == "local":
        return None
    if named and named != "auto":
        if not ADDRESS.fullmatch(named):
            raise UsageError(
                f'RAY_ADDRESS must be "ray://host:10001" or "host:6379"; got {named!r}. Correct or unset it.'
            )
        return _reached(named, "RAY_ADDRESS")
    started = _started_here(environment)
    if started is None and named == "auto":
        raise LaunchError("RAY_ADDRESS is auto, but no Ray runs here. Start one with `ray start --head`, or unset it.")
    return started


def _connected() -> str | None:
    """The Ray that this process has initialised already; ray is not imported for it."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    client: Any = sys.modules.get("ray.util.client")
    if client is not None and client.ray.is_connected():
        return f"ray://{client.ray.get_context().client_worker._conn_str}"
    return str(ray.get_runtime_context().gcs_address)


def _started_here(environment: Mapping[str, str]) -> str | None:
    """What `ray start` noted, unless it has gone since."""
    folder = environment.get("RAY_TMPDIR") or (environment.get("TMPDIR") if sys.platform == "linux" else None) or "/tmp"
    try:
        address = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return None
    return address if ADDRESS.fullmatch(address) and _unreachable(address) is None else None


def _reached(address: str, named: str) -> str:
    reason = _unreachable(address)
    if reason is not None:
        where = "" if named == address else f" ({named})"
        raise LaunchError(
            f"Ray is not reachable at {address}{where}: {reason}. Is it running there (`ray start --head`), and is the "
            'port right (6379 for "host:port" on a node of the cluster, 10001 for "ray://host:port" from elsewhere)? '
            'on="ray" alone starts one here.'
        )
    return address


def _unreachable(address: str) -> str | None:
    """Why nobody answers there; None when somebody does."""
    match = ADDRESS.fullmatch(address)
    assert match is not None
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout=REACH_S).close()
    except TimeoutError:
        return f"no answer within {REACH_S:g} s"
    except (OSError, OverflowError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None
