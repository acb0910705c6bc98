"""From which code a run came: enough to tell two runs apart later, cheap enough to take with each."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

__all__ = ["fingerprint"]


@lru_cache(maxsize=1)
def fingerprint() -> dict[str, Any]:
    """commit and dirty (None outside a git checkout), and the versions of Python, labkit and torch. Never fails."""
    root = Path(__file__).resolve().parents[2]
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        "python": python_version(),
        "labkit": _version("labkit"),
        "torch": _version("torch"),
    }


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
