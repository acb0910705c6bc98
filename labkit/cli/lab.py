"""``labkit lab`` and ``labkit start``: the learner's own copies, and JupyterLab opened on them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from argparse import Namespace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from labkit.cli.place import lab_root, work_folder
from labkit.errors import LaunchError, UsageError
from labkit.hardware import lab_home

if TYPE_CHECKING:
    from labkit.launch import OwnedProcess

__all__ = ["lab", "start"]

FIRST_LESSON = "notebooks/00_start_here.ipynb"
CONFIG = Path(__file__).parent / "jupyter"  # no news dialog, no grading menus
START_DEADLINE_S = 60.0


def start(options: Namespace) -> int:
    """Lay or update the work copies, and say what happened to each that changed."""
    from labkit import lessons

    report = lessons.start(lab_root(options), work_folder(options), restore=getattr(options, "restore", False))
    for title, paths in (
        ("new", report.laid),
        ("updated", report.updated),
        ("merged with your changes", report.merged),
        ("left out, as you deleted it (`labkit start --restore` lays it again)", report.deleted),
    ):
        for path in paths:
            print(f"  {title}: {path}")
    for conflict in report.conflicts:
        print(f"  {conflict}", file=sys.stderr)
    return 0


def lab(options: Namespace) -> int:
    """Open JupyterLab on loopback, its token on, at the first lesson; until Ctrl-C or SIGTERM."""
    from labkit import launch

    work = work_folder(options)
    start(options)
    port = _port(options.port)
    token = secrets.token_urlsafe(24)
    url = f"http://127.0.0.1:{port}/lab/tree/{FIRST_LESSON}?token={token}"
    log = lab_home() / "logs" / f"jupyterlab-{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # The token goes by the environment: a command line can be read by every user of the machine.
    environment = {
        **launch.thread_waiting(),
        "JUPYTER_TOKEN": token,
        "JUPYTER_CONFIG_PATH": _first(CONFIG, "JUPYTER_CONFIG_PATH"),
        "PATH": _first(Path(sys.prefix) / "bin", "PATH"),  # `labkit` in JupyterLab's terminals
    }
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with launch.OwnedProcess(
            _command(work, port),
            name=f"JupyterLab on port {port}",
            kind="jupyterlab",
            cwd=work,
            env=environment,
            log=log,
        ) as server:
            print("Starting JupyterLab …", flush=True)
            _wait_until_it_answers(server, port, token, log)
            print(f"\n    {url}\n\nCtrl-C stops it and every kernel. Your copies live in {work}.", flush=True)
            if not options.no_browser and _has_screen():
                webbrowser.open(url)
            code = server.wait()
            if code == 128 + signal.SIGTERM:
                print("\nJupyterLab was stopped from elsewhere (`labkit stop`, or its own menu).")
            elif code:
                raise LaunchError(f"JupyterLab ended by itself with code {code}:\n{server.log_tail(15)}")
    except KeyboardInterrupt:
        print("\nJupyterLab has stopped.")
    return 0


def _first(folder: Path, variable: str) -> str:
    """A search path from the environment with one folder put before it."""
    return os.pathsep.join(part for part in (str(folder), os.environ.get(variable, "")) if part)


def _has_screen() -> bool:
    """Whether a browser would open in a window; on a server `webbrowser` may start a text browser over the terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _command(work: Path, port: int) -> list[str]:
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={work}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    # Which tabs were open is remembered apart from the user's other JupyterLabs.
    command.append(f"--LabApp.workspaces_dir={lab_home() / 'workspaces'}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers: the lab listens on loopback alone, with its token on
    return command


def _port(asked: int | None) -> int:
    """The port asked for, which must be free; else 8888, else any that is."""
    from labkit import launch

    if asked is None:
        return 8888 if launch.port_is_free(8888) else launch.free_port()
    if not 1024 <= asked <= 65535:
        raise UsageError(f"--port must lie between 1024 and 65535; got {asked}.")
    if not launch.port_is_free(asked):
        raise UsageError(f"Port {asked} is taken. Leave --port out to get a free one, or see `labkit ps`.")
    return asked


def _wait_until_it_answers(server: OwnedProcess, port: int, token: str, log: Path) -> None:
    """Until JupyterLab answers with our token; a server that ends or stalls is an error with its log."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/status", headers={"Authorization": f"token {token}"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy must not see loopback
    until = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            with direct.open(request, timeout=5) as answer:
                json.load(answer)
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError, ValueError):
            time.sleep(0.1)
    tail = server.log_tail(15)
    raise LaunchError(
        f"JupyterLab did not answer on port {port} within {START_DEADLINE_S:.0f} s. Its log, {log}:\n{tail}"
    )


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
