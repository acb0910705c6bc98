"""A link between ranks: what a transfer over it takes, and how transfers queue up on it. Arithmetic alone, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from types import MappingProxyType

from labkit.errors import UsageError
from labkit.parallel.cost import ring_all_reduce_bytes
from labkit.sizes import need_int

__all__ = ["Link", "LinkQueue", "Topology", "named_link", "ring_bytes_sent", "ring_steps"]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class Link:
    """A rank's way to the others. ``alpha_s``: latency of one step of a ring; bandwidth: of what the rank sends."""

    name: str
    bandwidth_bytes_per_s: float
    alpha_s: float = 0.0

    def __post_init__(self) -> None:
        if not (_is_number(self.bandwidth_bytes_per_s) and self.bandwidth_bytes_per_s > 0):
            came = f"got {self.bandwidth_bytes_per_s!r}. 50e6 is 50 MB/s"
            raise UsageError(f"bandwidth_bytes_per_s of a link must be finite and above 0; {came}.")
        if not (_is_number(self.alpha_s) and self.alpha_s >= 0):
            raise UsageError(f"alpha_s of a link must be finite and at least 0; got {self.alpha_s!r}. 1e-3 is 1 ms.")

    def slowed(self, factor: float) -> Link:
        """The same link in slow motion: bandwidth ÷ factor, latency × factor.

        Beside a processor that computes ``factor`` times slower, communication keeps its share of the time.
        """
        if not (_is_number(factor) and factor > 0):
            raise UsageError(f"A link is slowed by a finite factor above 0; got {factor!r}.")
        return replace(self, bandwidth_bytes_per_s=self.bandwidth_bytes_per_s / factor, alpha_s=self.alpha_s * factor)

    def time_s(self, steps: int, bytes_sent: float) -> float:
        """steps · α + bytes ÷ bandwidth."""
        return steps * self.alpha_s + bytes_sent / self.bandwidth_bytes_per_s


NEWEST = MappingProxyType({"nvlink": "nvlink-4", "pcie": "pcie-5", "infiniband": "infiniband-ndr"})


def named_link(name: str, slowdown: float = 1.0) -> Link:
    """A link of the catalogue, ``slowdown`` times slower: a few thousand fit a laptop's own loopback.

    name: its id there, or nvlink, pcie or infiniband for an H100's. UsageError that names what exists.
    """
    from labkit.parallel import catalogue  # which is made of links

    return catalogue.link(NEWEST.get(name, name)).slowed(slowdown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Nodes of ``ranks_per_node`` neighbouring ranks. Each rank has a port inside its node and one to other nodes."""

    ranks_per_node: int
    inside: Link
    between: Link

    def __post_init__(self) -> None:
        need_int(ranks_per_node=self.ranks_per_node)

    def link(self, ranks: Sequence[int]) -> Link:
        """What paces a transfer among these ranks: the link between nodes as soon as two of them are apart."""
        nodes = {rank // self.ranks_per_node for rank in ranks}
        return self.inside if len(nodes) == 1 else self.between


def ring_steps(op: str, world_size: int) -> int:
    """Steps of a ring, one latency each: n − 1, twice that for an all-reduce or a barrier, 1 for a send."""
    if op in ("send", "recv"):
        return 1
    return (2 if op in ("all_reduce", "barrier") else 1) * (world_size - 1)


def ring_bytes_sent(op: str, num_bytes: float, world_size: int) -> float:
    """Bytes that a rank must send. num_bytes: the whole tensor (an all-gather's output, a reduce-scatter's input).

    A broadcast and a reduce pass the whole tensor on from rank to rank, in pieces, all links at once.
    """
    all_reduce = ring_all_reduce_bytes(num_bytes, world_size)
    if op == "all_reduce":
        return all_reduce
    if op in ("all_gather", "reduce_scatter", "all_to_all", "gather", "scatter"):
        return all_reduce / 2
    return float(num_bytes) if world_size > 1 else 0.0


class LinkQueue:
    """When transfers over one rank's link begin: one after another, in the order asked for. Times are the caller's."""

    __slots__ = ("_free_at_s", "_lock")

    def __init__(self) -> None:
        self._free_at_s = -math.inf
        self._lock = Lock()  # the caller reserves, what completes the transfers settles

    def reserve(self, now_s: float, time_s: float) -> float:
        """When a transfer asked for now can begin on this link; the link is taken until it has ended."""
        with self._lock:
            start_s = max(now_s, self._free_at_s)
            self._free_at_s = start_s + time_s
            return start_s

    def settle(self, finish_s: float) -> None:
        """A transfer that had to wait for other ranks ends then: what is asked for later cannot begin before."""
        with self._lock:
            self._free_at_s = max(self._free_at_s, finish_s)
