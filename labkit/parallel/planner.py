"""Which parallelism a training run needs: every plan costed, the best one chosen, the others refused with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.errors import UsageError
from labkit.parallel import cost
from labkit.parallel.catalogue import Node
from labkit.parallel.plan import Plan
from labkit.parallel.plan_memory import peak_bytes, peak_use
from labkit.parallel.splits import Floats, Ints, Job, Splits, all_splits
from labkit.parallel.step_time import PARTS, StepTimes, step_times

__all__ = ["EFFICIENCY", "SIMPLER_WITHIN", "USABLE_SHARE", "Plans", "device_counts", "num_knobs", "search"]

EFFICIENCY = 0.563  # fitted to five of Megatron-LM's published runs (published_runs); a test fits it again
USABLE_SHARE = 0.92  # of a device's memory: the rest is CUDA's context, NCCL's buffers and fragmentation
SIMPLER_WITHIN = 0.03  # a plan this much slower is chosen where it has fewer knobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """Every plan of a search, a row each. memory_bytes: of the fullest device; order: fastest first, fitting or not."""

    job: Job
    node: Node
    splits: Splits
    times: StepTimes
    memory_bytes: Floats
    budget_bytes: float
    order: Ints

    def __len__(self) -> int:
        return len(self.splits)

    @property
    def fits(self) -> Any:
        """(num_plans,) booleans."""
        return self.memory_bytes <= self.budget_bytes

    @property
    def num_fitting(self) -> int:
        return int(np.count_nonzero(self.fits))

    def plan(self, index: int) -> Plan:
        """A row as a plan."""
        row, job = self.splits.row(index), self.job
        shape = job.shape
        total_s = float(self.times.total_s[index])
        each = job.tokens_per_step / total_s / (row["tp"] * row["pp"] * row["dp"])
        peak = self.node.accelerator.peak(_dtype(job, self.node))
        matrices = shape.num_layers * shape.layer_matrix_params + shape.hidden_size * shape.vocab_size
        return Plan(
            job=job,
            node=self.node,
            memory=peak_use(job, self.splits, index),
            budget_bytes=self.budget_bytes,
            parts_s={part: float(getattr(self.times, part)[index]) for part in PARTS},
            sent_bytes={
                part: float(getattr(self.times, f"{part}_bytes")[index]) for part in ("tensor", "pipeline", "data")
            },
            mfu=cost.mfu(matrices, shape.num_layers, shape.num_heads * shape.head_dim, job.seq_len, each, peak),
            **{**row, "recompute": bool(row["recompute"])},  # type: ignore[arg-type]
        )

    def ranked(self, number: int | None = None) -> tuple[Plan, ...]:
        """The plans that fit, fastest first."""
        fitting = self.order[self.fits[self.order]]
        return tuple(self.plan(int(index)) for index in fitting[:number])

    def best(self, where: Callable[[Splits], Any] | None = None) -> Plan | None:
        """The fastest that fits and stays within nodes with tp, or a simpler one that is hardly slower. None: none.

        where: of the splits' columns, booleans of the rows to look at.
        """
        allowed = self.fits & (self.splits.tp <= self.node.devices_per_node)
        if where is not None:
            allowed = allowed & where(self.splits)
        if not allowed.any():
            return None
        seconds = np.where(allowed, self.times.total_s, np.inf)
        near = np.flatnonzero(seconds <= (1 + SIMPLER_WITHIN) * seconds.min())
        knobs = num_knobs(self.splits)[near]
        return self.plan(int(near[np.lexsort((seconds[near], knobs))[0]]))

    def fastest_without_room(self, number: int) -> Iterator[Plan]:
        """Plans that would be faster than the best but do not fit, the fastest first."""
        for index in self.order[~self.fits[self.order]][:number]:
            yield self.plan(int(index))


def search(
    job: Job,
    node: Node,
    num_devices: int,
    *,
    efficiency: float = EFFICIENCY,
    overlap: float = 1.0,
    usable_share: float = USABLE_SHARE,
    **fixed: Any,
) -> Plans:
    """Cost every plan of ``job`` over ``num_devices`` of ``node``. fixed: what `all_splits` takes (tp, pp, stages, …).

    UsageError: sizes that no split divides, or a number of devices that is more than a node and not whole nodes.
    """
    if num_devices > node.devices_per_node and num_devices % node.devices_per_node:
        raise UsageError(
            f"{node.id} comes in nodes of {node.devices_per_node}; got {num_devices} devices. "
            f"Use {num_devices // node.devices_per_node * node.devices_per_node} or another multiple."
        )
    whole = node.devices_per_node if num_devices > node.devices_per_node else 1
    splits = all_splits(job, num_devices, devices_per_node=whole, **fixed)
    times = step_times(job, node, splits, efficiency=efficiency, overlap=overlap)
    return Plans(
        job=job,
        node=node,
        splits=splits,
        times=times,
        memory_bytes=peak_bytes(job, splits),
        budget_bytes=usable_share * node.accelerator.memory_bytes,
        order=np.argsort(times.total_s, kind="stable"),
    )


def num_knobs(splits: Splits) -> Ints:
    """`Plan.num_knobs`, for every row."""
    on = (splits.dp > 1, splits.stage > 0, splits.tp > 1, splits.pp > 1, splits.recompute > 0, splits.num_chunks > 1)
    return np.asarray(np.sum(on, axis=0), dtype=np.int64)


def _dtype(job: Job, node: Node) -> str:
    return "float32" if job.precision in ("fp32", "fsdp-fp32") else node.accelerator.half_dtype


def device_counts(node: Node, most: int) -> Sequence[int]:
    """Powers of two up to ``most`` that are part of one node or whole nodes."""
    counts = [2**i for i in range(max(1, most).bit_length())]
    return [n for n in counts if n <= most and (n <= node.devices_per_node or n % node.devices_per_node == 0)]
