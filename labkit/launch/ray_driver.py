"""The process that speaks with Ray for one launch: ``python -P ray_driver.py FOLDER ADDRESS SESSION``.

ADDRESS is the cluster's; empty, a Ray of its own is started with its files in SESSION. What it cannot do it leaves as
an error in FOLDER/trouble; ``stage`` says what it waits for. On SIGUSR1 it asks the ranks where they are; on SIGTERM,
and when all have ended, it takes everything off the cluster.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["main"]

OBJECT_STORE_BYTES = 80 * 2**20  # for calls and values on their way; the least that Ray takes is 75 MiB


def main(folder: Path, address: str, session: str) -> int:
    setup = pickle.loads((folder / "setup.pickle").read_bytes())
    sys.path[:] = setup["sys_path"]
    from labkit.errors import LabError, LaunchError

    asked, connected = threading.Event(), threading.Event()
    signal.signal(signal.SIGUSR1, lambda number, frame: asked.set())
    _end_while_not(connected)
    try:
        try:
            with _connected(folder, address, session, setup) as ray:
                connected.set()
                _run(ray, folder, setup, asked)
        except LabError:
            raise
        except Exception as error:
            what = str(error).strip().partition("\n")[0]
            raise LaunchError(f"Ray could not do it: {type(error).__name__}: {what}") from error
    except LabError as error:
        (folder / "trouble.new").write_bytes(pickle.dumps(error))
        (folder / "trouble.new").replace(folder / "trouble")
        return 1
    return 0


def _run(ray: Any, folder: Path, setup: dict[str, Any], asked: threading.Event) -> None:
    from labkit.launch.ray_gang import Gang

    gang = Gang(ray, folder, setup)
    try:
        gang.place()
        gang.start()
        (folder / "stage").unlink()
        while not gang.done():
            gang.step()
            if asked.is_set():
                asked.clear()
                gang.ask_where()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # not in the middle of it
        if not setup["scratch"]:  # its own Ray goes as a whole
            gang.close()


@contextlib.contextmanager
def _connected(folder: Path, address: str, session: str, setup: dict[str, Any]) -> Iterator[Any]:
    (folder / "stage").write_text("loading Ray")
    ray: Any = importlib.import_module("ray")
    if address:
        (folder / "stage").write_text("connecting to Ray")
        _connect(ray, address)
    else:
        (folder / "stage").write_text("starting Ray")
        ray.init(
            "local",
            num_cpus=max(os.cpu_count() or 1, setup["ranks"] * setup["num_threads"]),  # ranks share cores, as locally
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=session,
            # Loopback, and not 127.0.0.1, which Ray replaces by an address that others can reach.
            _node_ip_address="127.0.0.2" if sys.platform == "linux" else None,
        )
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield ray
    finally:  # all that Ray started here stands below our guard and ends faster with it; elsewhere it ends in order
        if address or setup["watch_parent"]:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Of a busy cluster Ray's server of clients gives up after half a minute; the second time all is loaded already."""
    try:
        ray.init(address, log_to_driver=False)
    except ConnectionAbortedError:
        ray.init(address, log_to_driver=False)


def _end_while_not(connected: threading.Event) -> None:
    """Go at SIGTERM also in the middle of connecting, which Python would only notice afterwards."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def watch() -> None:
        while not connected.is_set():
            if signal.SIGTERM in os.read(read, 1) and not connected.is_set():
                os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    try:
        code = main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without Ray's farewells at exit, which wait
