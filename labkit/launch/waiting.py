"""How a kernel's threads wait for each other, decided before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["thread_waiting"]


def thread_waiting(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a kernel whose OpenMP threads sleep between two parallel regions, unless the user chose.

    Spinning ones use up their turn while they wait, so on a machine with anything else to do the scheduler takes them
    off the core just when there is work. A decode step has hundreds of such regions: with one other busy process on
    two cores it took 1.1 s instead of 24 ms, and 40 ms when the threads slept.
    """
    return {"OMP_WAIT_POLICY": environment.get("OMP_WAIT_POLICY", "passive")}
