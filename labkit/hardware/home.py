"""The lab's own folder on this machine: records, ceilings, the list of processes, caches."""

from __future__ import annotations

import os
from pathlib import Path

from labkit.errors import UsageError

__all__ = ["lab_home"]


def lab_home() -> Path:
    """``$LABKIT_HOME``, else ``~/.labkit``; created when it is not there. UsageError where it cannot be."""
    home = Path(os.environ.get("LABKIT_HOME") or "~/.labkit").expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The lab's folder {home} cannot be made: {error.strerror or error}. "
            "Set LABKIT_HOME to a folder that can be written."
        ) from error
    return home
