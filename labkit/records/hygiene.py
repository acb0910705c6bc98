"""What else tells two runs apart: the packages they ran with, and the data that they read."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.errors import UsageError

__all__ = ["VARIABLES", "data_version", "environment", "environment_id", "flat"]

# Environment variables that change results or speed; kept where they are set.
VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONHASHSEED")


def environment() -> dict[str, Any]:
    """packages (name -> version, every one that is installed), python, platform, and `VARIABLES` that are set.

    The packages are read once a process: what is installed under a running process is not what it runs.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "packages": dict(_packages()),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def environment_id(told: str) -> str:
    """The name under which an environment, as JSON, is kept once for all runs that share it."""
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def data_version(*paths: str | Path) -> dict[str, str]:
    """Path -> "sha256:…" of a file's content, or of a folder's names and contents. UsageError: nothing is there.

    It reads every byte once; for data that is too large for that, hand `start_run` the version that its maker gives it.
    """
    return {str(path): f"sha256:{_digest(Path(path))}" for path in paths}


@lru_cache(maxsize=1)
def _packages() -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for one in metadata.distributions():
        name = one.metadata["Name"]
        if name:  # a half-removed package has none
            found.setdefault(name.lower().replace("_", "-"), one.version)  # the first on the path is what is imported
    return tuple(sorted(found.items()))


def _digest(path: Path) -> str:
    if path.is_dir():
        total = hashlib.sha256()
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            total.update(f"{file.relative_to(path).as_posix()}\0{_digest(file)}\n".encode())
        return total.hexdigest()
    if not path.is_file():
        raise UsageError(f"No data is at {path}, so it has no version. Name a file or a folder that is there.")
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return out
