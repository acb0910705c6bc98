"""A link between ranks: what a transfer over it takes, and how transfers queue up on it. Arithmetic alone, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

from labkit.errors import UsageError

__all__ = ["LINKS", "Link", "LinkQueue", "Topology", "named_link", "ring_bytes_sent", "ring_steps"]


@dataclass(frozen=True, slots=True)
class Link:
    """What joins two ranks. ``alpha_s``: latency of one step of a ring; bandwidth: bytes a rank sends each second."""

    name: str
    bandwidth_bytes_per_s: float
    alpha_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value, low in (
            ("bandwidth_bytes_per_s", self.bandwidth_bytes_per_s, "above"),
            ("alpha_s", self.alpha_s, "at least"),
        ):
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0 or (value == 0 and low == "above"):
                raise UsageError(f"{name} of a link must be finite and {low} 0; got {value!r}.")

    def slowed(self, factor: float) -> Link:
        """The same link in slow motion: bandwidth ÷ factor, latency × factor. 1 makes no change.

        Beside a processor that computes ``factor`` times slower, communication keeps its share of the time.
        """
        if not (isinstance(factor, (int, float)) and 0 < factor < math.inf):
            raise UsageError(f"A link is slowed by a finite factor above 0; got {factor!r}.")
        return replace(self, bandwidth_bytes_per_s=self.bandwidth_bytes_per_s / factor, alpha_s=self.alpha_s * factor)

    def time_s(self, steps: int, bytes_sent: float) -> float:
        """steps · α + bytes ÷ bandwidth."""
        return steps * self.alpha_s + bytes_sent / self.bandwidth_bytes_per_s


# One direction of what a device is built with, before any protocol: NVIDIA's H100 data sheet (NVLink 4, 900 GB/s both
# ways), PCI-SIG 5.0 x16, InfiniBand NDR 400 Gb/s, and Ethernet's line rates. Latency of a step: NCCL's own cost model
# (src/graph/tuning.cc, hwLat, Ring/Simple): 3.4 µs over NVLink, 5.7 over PCIe, 9.6 over a network.
LINKS = MappingProxyType(
    {
        link.name: link
        for link in (
            Link("nvlink", 450e9, 3.4e-6),
            Link("pcie", 63e9, 5.7e-6),
            Link("infiniband", 50e9, 9.6e-6),
            Link("ethernet-100g", 12.5e9, 9.6e-6),
            Link("ethernet-25g", 3.125e9, 9.6e-6),
        )
    }
)


def named_link(name: str, slowdown: float = 1.0) -> Link:
    """The link of `LINKS` that is called so, ``slowdown`` times slower: 1000 and more fits a laptop's loopback."""
    if name not in LINKS:
        raise UsageError(f"Unknown link {name!r}. Use one of {', '.join(LINKS)}, or Link(name, bandwidth, alpha).")
    return LINKS[name].slowed(slowdown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Nodes of ``ranks_per_node`` neighbouring ranks: one link inside a node, another between nodes."""

    ranks_per_node: int
    inside: Link
    between: Link

    def __post_init__(self) -> None:
        if isinstance(self.ranks_per_node, bool) or not isinstance(self.ranks_per_node, int) or self.ranks_per_node < 1:
            raise UsageError(f"ranks_per_node must be a whole number of at least 1; got {self.ranks_per_node!r}.")

    def link(self, ranks: tuple[int, ...]) -> Link:
        """What paces a ring over these ranks: the link between nodes as soon as two of them are apart."""
        return self.inside if len({rank // self.ranks_per_node for rank in ranks}) == 1 else self.between


STEPS = {
    "all_reduce": lambda n: 2 * (n - 1),
    "barrier": lambda n: 2 * (n - 1),
    "send": lambda n: 1,
}


def ring_steps(op: str, world_size: int) -> int:
    """Steps of a ring, one latency each: 2(n − 1) for an all-reduce, n − 1 for its halves and a broadcast."""
    return STEPS.get(op, lambda n: n - 1)(world_size)


def ring_bytes_sent(op: str, num_bytes: float, world_size: int) -> float:
    """Bytes that a rank must send. num_bytes: the whole tensor (an all-gather's output, a reduce-scatter's input)."""
    share = (world_size - 1) / world_size
    if op == "all_reduce":
        return 2 * share * num_bytes
    if op in ("all_gather", "reduce_scatter", "all_to_all", "gather", "scatter"):
        return share * num_bytes
    return float(num_bytes)  # send; broadcast and reduce pass the whole tensor on


class LinkQueue:
    """When transfers over one rank's link begin and end: one after another, in the order asked for."""

    def __init__(self) -> None:
        self.free_at_s = 0.0

    def reserve(self, now_s: float, time_s: float) -> float:
        """When a transfer asked for now can begin on this rank; the link is taken until it has ended."""
        start_s = max(now_s, self.free_at_s)
        self.free_at_s = start_s + time_s
        return start_s

    def settle(self, finish_s: float) -> None:
        """A transfer that had to wait for other ranks ends then: what follows cannot begin before."""
        self.free_at_s = max(self.free_at_s, finish_s)
