"""This machine as an entry of the catalogue, and each rung on it as the plan that the planner makes of it."""

from __future__ import annotations

from typing import Any

from labkit.errors import UsageError
from labkit.parallel.catalogue import Accelerator, Node
from labkit.parallel.links import Link
from labkit.parallel.plan import Plan
from labkit.parallel.planner import search
from labkit.parallel.splits import Job
from labkit.parallel.step_time import layer_flops_per_token

__all__ = ["measured_node", "rung_plan"]

NEVER = 1e30  # bytes a second: what a measured step has already paid is not paid again


def measured_node(
    job: Job, link: Link, *, ranks: int, alone_s: float, memory_bytes: float, price_usd_per_h: float | None = None
) -> Node:
    """A node of ``ranks`` devices as fast as a rank was when it trained its share of the batch alone, joined by link.

    alone_s: seconds of forward and backward of batch ÷ ranks, with all ranks at it at once. memory_bytes: of them all.
    """
    if not 0 < alone_s < float("inf"):
        raise UsageError(f"alone_s must be finite and above 0; got {alone_s!r}.")
    if ranks < 1 or job.batch_size % ranks:
        raise UsageError(f"ranks must divide the batch; got {ranks} and {job.batch_size}.")
    shape, tokens = job.shape, job.tokens_per_step / ranks
    flops = shape.num_layers * layer_flops_per_token(shape, job.seq_len) + 2 * shape.hidden_size * shape.vocab_size
    device = Accelerator(
        id="this-machine",
        name="a rank of this machine",
        memory_bytes=memory_bytes / ranks,
        peak_flops_per_s={"float32": 3 * tokens * flops / alone_s},
        memory_bandwidth_bytes_per_s=NEVER,
        source="measured here",
    )
    return Node(
        id="this-machine",
        name=f"{ranks} ranks over {link.name}",
        accelerator=device,
        devices_per_node=ranks,
        inside=link,
        across=link,
        network_bytes_per_s=ranks * link.bandwidth_bytes_per_s,
        source="measured here",
        price_usd_per_node_h=price_usd_per_h,
    )


def rung_plan(rung: str, job: Job, node: Node, num_microbatches: int) -> Plan:
    """The plan that ``rungs.time_rungs`` runs under this name, on all devices of the node.

    fully_shard on CPUs waits for each of its collectives, so nothing of "sharded" overlaps there.
    """
    n = node.devices_per_node
    fixed: dict[str, dict[str, Any]] = {
        "data": {"tp": 1, "pp": 1, "stages": (0,), "micro_batch": job.batch_size // n},
        "sharded": {"tp": 1, "pp": 1, "stages": (3,), "micro_batch": job.batch_size // n, "overlap": 0.0},
        "tensor": {"tp": n, "pp": 1, "micro_batch": job.batch_size},
        "pipeline": {"tp": 1, "pp": n, "num_chunks": 1, "micro_batch": job.batch_size // num_microbatches},
    }
    if rung not in fixed:
        raise UsageError(f"The rung must be one of {', '.join(fixed)}; got {rung!r}.")
    plans = search(job, node, n, efficiency=1.0, recompute=(0,), **fixed[rung])
    return plans.plan(int(plans.order[0]))
