"""What can be bought or rented to train on: accelerators, links and priced nodes, read from datasets/hardware/."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labkit.errors import UsageError
from labkit.parallel.links import Link
from labkit.units import GIB

__all__ = ["TABLES", "Accelerator", "Node", "accelerator", "accelerator_ids", "link", "node", "nodes"]

TABLES = Path(__file__).resolve().parents[2] / "datasets" / "hardware"
DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One device. peak_flops_per_s: by dtype, dense; a dtype that it has no units for is not in it."""

    id: str
    name: str
    memory_bytes: float
    peak_flops_per_s: Mapping[str, float]
    memory_bandwidth_bytes_per_s: float
    source: str
    date: str = ""

    def peak(self, dtype: str) -> float:
        """FLOP/s in ``dtype``. UsageError that names the dtypes it has."""
        if dtype not in self.peak_flops_per_s:
            has = ", ".join(self.peak_flops_per_s)
            raise UsageError(f"{self.id} has no peak in {dtype!r} in the catalogue. It has: {has}.")
        return self.peak_flops_per_s[dtype]

    @property
    def half_dtype(self) -> str:
        """The 16-bit dtype that it trains in: bfloat16, or float16 on a device that is older than that."""
        return "bfloat16" if "bfloat16" in self.peak_flops_per_s else "float16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine as one gets it. network_bytes_per_s: all of its network, one direction; price: none where not rented.

    inside and across: the links between devices of one node, and one adapter between nodes.
    """

    id: str
    name: str
    accelerator: Accelerator
    devices_per_node: int
    inside: Link
    across: Link
    network_bytes_per_s: float
    source: str
    date: str = ""
    price_usd_per_node_h: float | None = None

    def __post_init__(self) -> None:
        if self.devices_per_node < 1:
            raise UsageError(f"A node has at least 1 device; got {self.devices_per_node}.")
        if not 0 < self.network_bytes_per_s < float("inf"):
            raise UsageError(f"network_bytes_per_s must be finite and above 0; got {self.network_bytes_per_s!r}.")
        price = self.price_usd_per_node_h
        if price is not None and not 0 < price < float("inf"):
            raise UsageError(f"price_usd_per_node_h must be finite and above 0, or None; got {price!r}.")

    @property
    def price_usd_per_device_h(self) -> float | None:
        return None if self.price_usd_per_node_h is None else self.price_usd_per_node_h / self.devices_per_node

    @property
    def share_bytes_per_s(self) -> float:
        """What a device can send to other nodes while all of its node do."""
        return self.network_bytes_per_s / self.devices_per_node


def accelerator(id: str) -> Accelerator:
    """A device by its id. UsageError that names what exists."""
    row = _row("accelerators", id, "accelerator")
    return Accelerator(
        id=id,
        name=row["name"],
        memory_bytes=float(row["memory_gib"]) * GIB,
        peak_flops_per_s={d: float(row[f"{d}_flops_per_s"]) for d in DTYPES if row[f"{d}_flops_per_s"]},
        memory_bandwidth_bytes_per_s=float(row["memory_bandwidth_bytes_per_s"]),
        source=row["source"],
        date=row["date"],
    )


def accelerator_ids() -> tuple[str, ...]:
    """Every device of the catalogue."""
    return tuple(_table("accelerators"))


def link(id: str) -> Link:
    """A link by its id. UsageError that names what exists."""
    row = _row("links", id, "link")
    return Link(row["name"], float(row["bandwidth_bytes_per_s"]), float(row["alpha_s"]))


def node(id: str) -> Node:
    """A priced node by its id, or an accelerator's own reference node, which has no price."""
    if id in _table("prices"):
        row = _table("prices")[id]
        return _node(row, accelerator(row["accelerator"]), float(row["price_usd_per_node_h"]))
    if id in _table("accelerators"):
        return _node(_table("accelerators")[id], accelerator(id), None)
    raise UsageError(
        f"No node or accelerator is named {id!r}. Nodes with a price: {', '.join(_table('prices'))}. "
        f"Accelerators: {', '.join(_table('accelerators'))}."
    )


def nodes(accelerator_id: str | None = None) -> tuple[Node, ...]:
    """Every priced node, or those with one accelerator; the cheapest device-hour first."""
    if accelerator_id is not None:
        accelerator(accelerator_id)  # so that an unknown one is said
    found = [node(id) for id in _table("prices")]
    chosen = [each for each in found if accelerator_id in (None, each.accelerator.id)]
    return tuple(sorted(chosen, key=lambda each: each.price_usd_per_device_h or 0.0))


def _node(row: Mapping[str, str], device: Accelerator, price: float | None) -> Node:
    return Node(
        id=row["id"],
        name=row["name"],
        accelerator=device,
        devices_per_node=int(row["devices_per_node"]),
        inside=link(row["link_inside"]),
        across=link(row["link_across"]),
        network_bytes_per_s=float(row["network_bytes_per_s"]),
        source=row["source"],
        date=row["date"],
        price_usd_per_node_h=price,
    )


def _row(table: str, id: str, noun: str) -> Mapping[str, str]:
    rows = _table(table)
    if id not in rows:
        raise UsageError(f"No {noun} is named {id!r}. There are: {', '.join(rows)}.")
    return rows[id]


@cache
def _table(name: str) -> Mapping[str, Mapping[str, str]]:
    path = TABLES / f"{name}.csv"
    if not path.is_file():
        raise UsageError(f"{path} is not there: labkit reads the catalogue from the lab's checkout. Run it from one.")
    with path.open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}
