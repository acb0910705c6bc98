"""As many threads as this process may keep busy: torch counts the machine's cores and does not see a group's quota."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labkit.hardware import machine

__all__ = ["allowed_threads"]


@contextmanager
def allowed_threads() -> Iterator[int]:
    """torch's threads, never more than the machine's usable cores, put back after. Fewer, if the user chose so, stay.

    Eight threads on a quota of two cores run for a quarter of each period and are stopped for the rest: the slowest
    repeats of that are no ceiling.
    """
    import torch

    before = torch.get_num_threads()
    allowed = min(before, machine().num_cores)
    torch.set_num_threads(allowed)
    try:
        yield allowed
    finally:
        torch.set_num_threads(before)
