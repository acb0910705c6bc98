"""How many waiting requests may join the batch now: all that naive, static and continuous batching differ in."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["POLICIES", "Policy", "continuous", "naive", "static"]

# (num_running, num_waiting, max_num_seqs) -> how many to admit
Policy = Callable[[int, int, int], int]


def naive(num_running: int, num_waiting: int, max_num_seqs: int) -> int:
    """One request at a time."""
    return 0 if num_running else min(num_waiting, 1)


def static(num_running: int, num_waiting: int, max_num_seqs: int) -> int:
    """A batch, then nobody until its last request has finished."""
    return 0 if num_running else min(num_waiting, max_num_seqs)


def continuous(num_running: int, num_waiting: int, max_num_seqs: int) -> int:
    """A freed slot is given away in the very next step (Orca, Yu et al. 2022)."""
    return min(num_waiting, max_num_seqs - num_running)


POLICIES: dict[str, Policy] = {"naive": naive, "static": static, "continuous": continuous}
