"""A place for every rank of a gang at once, on a Ray cluster."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from labkit.errors import UsageError
from labkit.launch.request import PLAIN_RANK_BYTES, RANK_BYTES
from labkit.units import format_bytes

__all__ = ["Place"]


class Place:
    """A placement group: ``ranks`` bundles, reserved all or none. It is there from ``wait`` to ``give_back``."""

    def __init__(self, ray: Any, *, ranks: int, num_threads: int, backend: str | None) -> None:
        """UsageError for more ranks than the cluster's memory can hold, however long they waited."""
        self.ray, self.ranks = ray, ranks
        has = ray.cluster_resources()
        if backend == "auto":
            backend = "nccl" if has.get("GPU", 0) >= ranks else "gloo"
        self.backend = backend
        each = PLAIN_RANK_BYTES if backend is None else RANK_BYTES
        if ranks * each > has.get("memory", float("inf")):
            raise UsageError(
                f"{ranks} ranks need about {format_bytes(ranks * each)} before they do anything; the cluster has "
                f"{format_bytes(int(has['memory']))}. Use at most {int(has['memory'] // each)}."
            )
        self.bundle: dict[str, float] = {"CPU": num_threads, "memory": each}
        if backend == "nccl":
            self.bundle["GPU"] = 1
        self.group: Any = None

    def wait(self, unplaced: Path) -> None:
        """Until it is ours; meanwhile the file ``unplaced`` says what is missing."""
        groups: Any = importlib.import_module("ray.util.placement_group")
        self.group = groups.placement_group([self.bundle] * self.ranks, strategy="PACK")
        scratch = unplaced.with_name(unplaced.name + ".new")
        while not self.group.wait(1):
            scratch.write_text(self._missing())
            scratch.replace(unplaced)
        unplaced.unlink(missing_ok=True)

    def _missing(self) -> str:
        wanted = ", ".join(_amount(name, amount) for name, amount in self.bundle.items())
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        nodes = sorted(alive, key=lambda node: str(node["NodeManagerAddress"]))  # Ray has them in an order of its own
        has = "; ".join(f"{node['NodeManagerAddress']} has {_amounts(node['Resources'])}" for node in nodes)
        return (
            f"They want {self.ranks} places of {wanted} each, all at once. The cluster has {len(nodes)} "
            f"node{'s' if len(nodes) != 1 else ''} ({has}); free are {_amounts(self.ray.available_resources())}. "
            "Use fewer ranks or threads, add a node, or wait longer for the others on it to finish."
        )

    def options(self, index: int) -> dict[str, Any]:
        """What puts an actor on one bundle, and has it never come back once it died."""
        strategies: Any = importlib.import_module("ray.util.scheduling_strategies")
        return {
            "num_cpus": self.bundle["CPU"],
            "num_gpus": self.bundle.get("GPU", 0),
            "scheduling_strategy": strategies.PlacementGroupSchedulingStrategy(
                self.group, placement_group_bundle_index=index
            ),
            "max_restarts": 0,
        }

    def give_back(self) -> None:
        if self.group is not None:
            importlib.import_module("ray.util.placement_group").remove_placement_group(self.group)


def _amount(name: str, amount: float) -> str:
    return f"{format_bytes(int(amount))} of memory" if name == "memory" else f"{amount:g} {name}"


def _amounts(resources: dict[str, float]) -> str:
    found = [_amount(name, resources.get(name, 0.0)) for name in ("CPU", "GPU", "memory")]
    return ", ".join(found)
