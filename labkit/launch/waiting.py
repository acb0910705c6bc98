"""How a kernel's threads wait for each other, decided before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["thread_waiting"]

# About half a millisecond: longer than the pause between two parallel regions of a decode step, and far shorter than
# a scheduler's turn. GNU OpenMP's own default is 300,000.
SPINS = "10000"


def thread_waiting(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a kernel whose OpenMP threads spin only briefly before they sleep, unless the user chose.

    Those that spin for long use up their turn while they wait, so on a machine with anything else to do the scheduler
    takes them off the core just when there is work. A decode step has hundreds of parallel regions. With one other busy
    process on two cores it took more than 1 s at GNU OpenMP's default instead of 24 ms, and 80 ms with this; on a quiet
    machine this costs about 5 %. https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
    """
    chosen = "GOMP_SPINCOUNT" in environment or "OMP_WAIT_POLICY" in environment
    return {} if chosen else {"GOMP_SPINCOUNT": SPINS}
