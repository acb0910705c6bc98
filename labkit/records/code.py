"""From which code a run came: enough to tell two runs apart later, cheap enough to take with each."""

from __future__ import annotations

import hashlib
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

__all__ = ["fingerprint"]

_ROOT = Path(__file__).resolve().parents[2]


@lru_cache(maxsize=4)
def fingerprint(root: Path = _ROOT) -> dict[str, Any]:
    """commit, dirty and changes (None where ``root`` is no git checkout), and the versions of Python, labkit and torch.

    changes: a digest of what differs from the commit, so that two runs of one dirty checkout can be told apart.

    Taken once a process; never fails, imports nothing that it names.
    """
    commit, dirty = _checkout(root)
    return {
        "commit": commit,
        "dirty": dirty,
        "changes": _changes(root) if dirty else None,
        "python": python_version(),
        "labkit": _version("labkit"),
        "torch": _version("torch"),
    }


def _checkout(root: Path) -> tuple[str | None, bool | None]:
    told = (_git(root, "rev-parse", "--show-toplevel", "HEAD") or "").splitlines()
    # A labkit installed below somebody's own project is not that project's commit.
    if len(told) != 2 or Path(told[0]).resolve() != root.resolve():
        return None, None
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return told[1], None if changes is None else bool(changes)


def _changes(root: Path) -> str | None:
    changes = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff")
    return None if changes is None else hashlib.sha256(changes.encode(errors="surrogateescape")).hexdigest()[:16]


def _git(root: Path, *words: str) -> str | None:
    """What git says, or None. It takes no lock, so that it never stands in the way of the learner's own git."""
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
