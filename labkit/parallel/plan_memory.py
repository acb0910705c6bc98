"""The peak memory of a whole table of plans at once: `memory.peak_memory`, column by column."""

from __future__ import annotations

from typing import Any

import numpy as np

from labkit.parallel.activations import activation_bytes
from labkit.parallel.memory import MemoryUse, peak_memory
from labkit.parallel.moments import moments, stage_parts
from labkit.parallel.precision import PRECISIONS
from labkit.parallel.splits import Floats, Ints, Job, Splits

__all__ = ["in_flight", "peak_bytes", "peak_use"]


def in_flight(splits: Splits) -> Floats:
    """Micro-batches whose activations the first stage holds: p, and p − 1 chunks more where it interleaves.

    Source: Korthikanti et al. (2022), section 4.2.3.
    """
    extra = np.where(splits.num_chunks > 1, (splits.pp - 1) / (splits.pp * splits.num_chunks), 0.0)
    return np.asarray(np.minimum(splits.pp * (1 + extra), splits.num_microbatches), dtype=np.float64)


def peak_bytes(job: Job, splits: Splits) -> Floats:
    """(num_plans,) bytes of the fullest device. Plans that share mesh, stage and recompute are reckoned in one go."""
    held, peaks = in_flight(splits), np.empty(len(splits))
    keys = np.stack((splits.tp, splits.pp, splits.dp, splits.stage, splits.recompute))  # (5, num_plans)
    groups, member = np.unique(keys, axis=1, return_inverse=True)
    order = np.argsort(member.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(member.ravel()))
    for key, rows in zip(groups.T, np.split(order, ends[:-1]), strict=True):
        peaks[rows] = _group(job, key, splits.micro_batch[rows], held[rows])
    return peaks


def peak_use(job: Job, splits: Splits, index: int) -> MemoryUse:
    """The peak of one row, by class."""
    row = splits.row(index)
    return peak_memory(
        job.shape,
        seq_len=job.seq_len,
        micro_batch=row["micro_batch"],
        dp=row["dp"],
        tp=row["tp"],
        pp=row["pp"],
        stage=row["stage"],
        precision=job.precision,
        recompute="full" if row["recompute"] else "none",
        in_flight=float(in_flight(splits)[index]),
    )


def _group(job: Job, key: Ints, micro_batch: Any, held: Any) -> Any:
    """Peaks of plans that differ in micro-batch and micro-batches in flight alone, both (num_rows,)."""
    tp, pp, dp, stage, recompute = (int(number) for number in key)
    bits = PRECISIONS[job.precision]
    acts = activation_bytes(
        job.shape,
        tokens=micro_batch * job.seq_len,
        seq_len=job.seq_len,
        tp=tp,
        compute_bytes=bits.compute_bytes,
        recompute="full" if recompute else "none",
    )
    peak: Any = 0.0
    for part in stage_parts(job.shape, tp, pp, held):
        for use in moments(part, acts, bits, dp, stage):
            peak = np.maximum(peak, use.total_bytes)
    return peak
