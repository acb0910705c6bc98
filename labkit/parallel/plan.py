"""One plan of a training run: how it is split, what it takes, what limits it, and how it is launched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labkit.parallel.catalogue import Node
from labkit.parallel.memory import MemoryUse
from labkit.parallel.splits import Job
from labkit.units import HOUR_S

__all__ = ["LIMITS", "Plan"]

DAY_S = 24 * HOUR_S
LIMITS: Mapping[str, str] = {
    "compute": "arithmetic",
    "memory": "memory bandwidth",
    "tensor": "tensor parallelism's all-reduces",
    "pipeline": "sends between pipeline stages",
    "bubble": "the pipeline's bubble",
    "data": "gradients and weights between replicas",
    "optimizer": "the optimizer's step",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A split with what the model says of it. parts_s: seconds of a step by step_time.PARTS; budget_bytes: what a
    process may use of a device; mfu: a fraction."""

    job: Job
    node: Node
    tp: int
    pp: int
    dp: int
    stage: int
    recompute: bool
    micro_batch: int
    num_chunks: int
    num_microbatches: int
    memory: MemoryUse
    budget_bytes: float
    parts_s: Mapping[str, float]
    sent_bytes: Mapping[str, float]
    mfu: float

    @property
    def num_devices(self) -> int:
        return self.tp * self.pp * self.dp

    @property
    def step_time_s(self) -> float:
        return sum(self.parts_s.values())

    @property
    def fits(self) -> bool:
        return self.memory.total_bytes <= self.budget_bytes

    @property
    def missing_bytes(self) -> float:
        """By how much it does not fit; 0 where it does."""
        return max(0.0, self.memory.total_bytes - self.budget_bytes)

    @property
    def tp_crosses_nodes(self) -> bool:
        return self.tp > self.node.devices_per_node

    @property
    def tokens_per_s(self) -> float:
        return self.job.tokens_per_step / self.step_time_s

    @property
    def days(self) -> float:
        """Of the whole run. 0 where the job names no number of tokens."""
        return self.job.num_tokens / self.tokens_per_s / DAY_S

    @property
    def usd(self) -> float | None:
        """Of the whole run at the node's price; whole nodes are paid. None where the node has no price."""
        price = self.node.price_usd_per_node_h
        return None if price is None else self.days * 24 * price * self.num_nodes

    @property
    def usd_per_billion_tokens(self) -> float | None:
        price = self.node.price_usd_per_node_h
        return None if price is None else 1e9 / self.tokens_per_s / HOUR_S * price * self.num_nodes

    @property
    def num_nodes(self) -> int:
        return -(-self.num_devices // self.node.devices_per_node)

    @property
    def rungs(self) -> tuple[str, ...]:
        """What of parallelism it uses, the simplest first."""
        used = {
            "data": self.dp > 1,
            f"ZeRO-{self.stage}": self.stage > 0,
            "tensor": self.tp > 1,
            "pipeline": self.pp > 1,
        }
        return tuple(name for name, is_used in used.items() if is_used)

    @property
    def num_knobs(self) -> int:
        """Settings that somebody has to choose and keep: a rung each, recomputing, interleaving."""
        return len(self.rungs) + self.recompute + (self.num_chunks > 1)

    @property
    def limit(self) -> str:
        """What takes most of the step besides arithmetic, or arithmetic where that is less than a tenth of it."""
        rest = {name: seconds for name, seconds in self.parts_s.items() if name != "compute"}
        largest = max(rest, key=lambda name: rest[name])
        return LIMITS[largest if rest[largest] > 0.1 * self.step_time_s else "compute"]

    @property
    def name(self) -> str:
        """``DP 16 × TP 8 × PP 8, ZeRO-1, recompute, micro-batch 1, 2 chunks``."""
        mesh = [f"{axis} {size}" for axis, size in (("DP", self.dp), ("TP", self.tp), ("PP", self.pp)) if size > 1]
        parts = [" × ".join(mesh) or "1 device"]
        parts += [f"ZeRO-{self.stage}"] if self.stage else []
        parts += ["recompute"] if self.recompute else []
        parts += [f"micro-batch {self.micro_batch}"]
        return ", ".join(parts + ([f"{self.num_chunks} chunks"] if self.num_chunks > 1 else []))

    def torchrun(self, script: str = "train.py") -> str:
        """The command for each node. $HEAD is the first node's address, which only the cluster knows."""
        each = min(self.num_devices, self.node.devices_per_node)
        if self.num_nodes == 1:
            return f"torchrun --standalone --nproc-per-node={each} {script}"
        meet = "--rdzv-backend=c10d --rdzv-endpoint=$HEAD:29500"
        return f"torchrun --nnodes={self.num_nodes} --nproc-per-node={each} {meet} {script}"

    def device_mesh(self, device: str = "cuda") -> str:
        """The line of code that lays the ranks out: tp innermost, so that it stays inside a node."""
        return f'init_device_mesh("{device}", ({self.pp}, {self.dp}, {self.tp}), mesh_dim_names=("pp", "dp", "tp"))'
