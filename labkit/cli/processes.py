"""``labkit ps``, ``stop`` and ``clean``: what runs, what is cached, and how to free it."""

from __future__ import annotations

import json
import shutil
import time
from argparse import Namespace
from pathlib import Path

from labkit.errors import UsageError
from labkit.units import format_bytes, format_seconds

__all__ = ["clean", "ps", "stop"]

# What `labkit clean` may free: all of it is made again when needed. Records, backups and ceilings are not in it.
CACHED = ("cache", "logs")


def ps(options: Namespace) -> int:
    """What the lab started and what still runs."""
    from labkit import launch

    running = launch.processes()
    if options.json:
        keys = ("pid", "kind", "name", "started_at", "owner_pid", "memory_bytes")
        print(json.dumps([{key: getattr(p, key) for key in keys} for p in running], indent=1))
    elif not running:
        print("Nothing of the lab is running.")
    for process in () if options.json else running:
        age = format_seconds(time.time() - process.started_at)
        print(f"{process.pid:>8}  {format_bytes(process.memory_bytes):>10}  {age:>12}  {process.kind}: {process.name}")
    return 0


def stop(options: Namespace) -> int:
    """End everything that the lab started, or one process of it."""
    from labkit import launch

    if options.pid is not None and options.pid not in {process.pid for process in launch.processes()}:
        raise UsageError(f"No process of the lab has pid {options.pid}. `labkit ps` lists them.")
    ended = launch.stop(options.pid)
    for process in ended:
        print(f"ended {process.pid}  {process.kind}: {process.name}")
    if not ended:
        print("Nothing of the lab was running.")
    return 0


def clean(options: Namespace) -> int:
    """Free what was cached, with sizes. Running processes keep their logs."""
    from labkit import launch
    from labkit.hardware import lab_home

    if not options.dry_run and launch.processes():
        raise UsageError(
            "Something of the lab is running and may use the cache. Run `labkit stop` first (`labkit ps`)."
        )
    freed = 0
    for name in CACHED:
        folder = lab_home() / name
        size = _size(folder)
        freed += size
        print(f"{format_bytes(size):>12}  {folder}")
        if not options.dry_run and folder.is_dir():
            shutil.rmtree(folder)
    print(f"{format_bytes(freed):>12}  {'could be freed' if options.dry_run else 'freed'}")
    return 0


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
