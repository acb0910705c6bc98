"""How long a training step takes under a plan: its parts, for every row of a table of plans at once.

Each device computes its share; tensor parallelism talks inside the layer and waits; the pipeline idles in its bubble
and sends activations on; data parallelism talks beside the backward and is paid for where it outlasts it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labkit.errors import UsageError
from labkit.parallel.activations import activation_bytes
from labkit.parallel.catalogue import Node
from labkit.parallel.precision import PRECISIONS
from labkit.parallel.shape import ModelShape
from labkit.parallel.splits import Floats, Ints, Job, Splits

__all__ = ["PARTS", "StepTimes", "layer_flops_per_token", "stage_params", "step_times"]

PARTS = ("compute", "memory", "tensor", "pipeline", "bubble", "data", "optimizer")
# What an operation saves for the backward it has written once; it is read by the next one and in the backward, where
# its gradient is written and read: five passes over memory for each byte that `activation_bytes` counts.
PASSES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Seconds of one step by what they are spent on, a column a part.

    compute: products of matrices; memory: moving activations between the operations that are none; data: gradients
    and gathered weights, as far as they are not hidden behind the backward.
    data_bytes, tensor_bytes, pipeline_bytes: sent by one device in one step.
    """

    compute: Floats
    memory: Floats
    tensor: Floats
    pipeline: Floats
    bubble: Floats
    data: Floats
    optimizer: Floats
    tensor_bytes: Floats
    pipeline_bytes: Floats
    data_bytes: Floats

    @property
    def total_s(self) -> Floats:
        return np.asarray(np.sum([getattr(self, part) for part in PARTS], axis=0), dtype=np.float64)


def layer_flops_per_token(shape: ModelShape, seq_len: int) -> float:
    """Forward FLOPs of one layer for one token: two a weight, and the scores and their use over the whole sequence."""
    return 2 * shape.layer_matrix_params + 4 * seq_len * shape.num_heads * shape.head_dim


def step_times(
    job: Job, node: Node, splits: Splits, *, efficiency: float, overlap: float = 1.0, fused_attention: bool = True
) -> StepTimes:
    """efficiency: of peak FLOP/s, that products of matrices reach; overlap: share of the backward beside which
    gradients and gathered weights can travel (1: DDP and fully_shard; 0: after it, as Megatron-LM in 2021)."""
    if not 0 < efficiency <= 1:
        raise UsageError(f"efficiency must be above 0 and at most 1; got {efficiency!r}.")
    if not 0 <= overlap <= 1:
        raise UsageError(f"overlap must lie between 0 and 1; got {overlap!r}.")
    s, m = splits, splits.num_microbatches
    width = PRECISIONS[job.precision].compute_bytes
    device = node.accelerator
    rate = efficiency * device.peak("float32" if width == 4 else device.half_dtype)

    tokens = s.micro_batch * job.seq_len  # of one micro-batch
    layers = job.shape.num_layers / s.pp
    forward = tokens * layers * layer_flops_per_token(job.shape, job.seq_len)
    head = tokens * 2 * job.shape.hidden_size * job.shape.vocab_size  # on the last stage, which paces the others
    compute = m * (forward * (3 + s.recompute) + 3 * head) / (s.tp * rate)
    per_token = activation_bytes(
        job.shape, tokens=1, seq_len=job.seq_len, compute_bytes=width, fused_attention=fused_attention
    ).layer
    memory = m * tokens * layers * PASSES * per_token / (s.tp * device.memory_bandwidth_bytes_per_s)

    hidden_bytes = tokens * job.shape.hidden_size * width
    # Two all-reduces a layer in the forward and in the backward (Shoeybi et al. 2019), two more where it is recomputed.
    times = m * layers * (4 + 2 * s.recompute) * (s.tp > 1)
    tensor_bytes = times * hidden_bytes * 2 * (s.tp - 1) / s.tp
    tensor = times * 2 * (s.tp - 1) * _alpha(node, s.tp, s.tp) + tensor_bytes / _rate(node, s.tp, s.tp)

    # Activations on, their gradients back, for every chunk; each of the tp ranks sends its part (Narayanan 2021).
    sends = 2 * m * s.num_chunks * (s.pp > 1)
    pipeline_bytes = sends * hidden_bytes / s.tp
    nearest = s.tp * s.dp + 1  # ranks up to the next stage's
    pipeline = sends * _alpha(node, s.pp, nearest) + pipeline_bytes / _rate(node, s.pp, nearest)

    bubble = (s.pp - 1) / (s.num_chunks * m) * (compute + memory + tensor)  # cost.pipeline_bubble, for columns
    data, data_bytes = _data(job, node, s, compute + memory, overlap)
    return StepTimes(
        compute=compute,
        memory=memory,
        tensor=tensor,
        pipeline=pipeline,
        bubble=bubble,
        data=data,
        optimizer=_optimizer(job, node, s),
        tensor_bytes=tensor_bytes,
        pipeline_bytes=pipeline_bytes,
        data_bytes=data_bytes,
    )


def stage_params(shape: ModelShape, splits: Splits) -> Floats:
    """Parameters on a device of the first or last stage, before any sharding over dp."""
    tables = shape.embedding_params / np.where((splits.pp > 1) & (not shape.tied), 2, 1)
    return np.asarray((shape.num_layers / splits.pp * shape.layer_params + tables) / splits.tp, dtype=np.float64)


def _data(job: Job, node: Node, s: Splits, busy: Floats, overlap: float) -> tuple[Floats, Floats]:
    """Exposed seconds, and bytes that a device sends, for gradients and gathered weights (ZeRO 2020, section 7)."""
    bits, m = PRECISIONS[job.precision], s.num_microbatches
    params = stage_params(job.shape, s)
    gathers = np.select([s.stage == 3, s.stage >= 1], [2 * m, 1], 1)  # of weights; plain: the second half of a ring
    reduces = np.where(s.stage >= 2, m, 1)  # of gradients
    width = np.where(s.stage == 0, bits.reduce_bytes, bits.compute_bytes)  # what the gathers carry
    share = (s.dp - 1) / s.dp
    num_bytes = share * params * (gathers * width + reduces * bits.reduce_bytes)
    # One collective a layer, each half of a ring.
    steps = (gathers + reduces) * (s.dp - 1) * job.shape.num_layers / s.pp
    spread = s.tp * s.dp
    seconds = steps * _alpha(node, s.dp, spread) + num_bytes / _rate(node, s.dp, spread, s.tp)
    backward = busy * (2 + s.recompute) / (3 + s.recompute)
    beside = np.select([s.stage == 3, s.stage == 2], [busy, backward], backward / m)
    return np.asarray(np.maximum(0.0, seconds - overlap * beside)), np.asarray(num_bytes)


def _optimizer(job: Job, node: Node, s: Splits) -> Floats:
    """Each byte of state that this device updates is read and written once."""
    bits = PRECISIONS[job.precision]
    mine = stage_params(job.shape, s) / np.where(s.stage > 0, s.dp, 1)
    return np.asarray(2 * mine * bits.bytes_per_param / node.accelerator.memory_bandwidth_bytes_per_s)


def _alpha(node: Node, size: Ints, spread: Ints) -> Floats:
    """Latency of one step of a group: of the link between nodes as soon as the group spreads over several."""
    inside = (spread <= node.devices_per_node) | (size == 1)
    return np.where(inside, node.inside.alpha_s, node.across.alpha_s)


def _rate(node: Node, size: Ints, spread: Ints, stride: Ints | int = 1) -> Floats:
    """Bytes a second that each rank of a group sends. stride: from one of its ranks to the next.

    The ranks of the group on one node share that node's way out between them, and no rank beats its link inside.
    """
    inside = (spread <= node.devices_per_node) | (size == 1)
    neighbours = np.clip(node.devices_per_node // np.maximum(stride, 1), 1, size)
    out = np.minimum(node.inside.bandwidth_bytes_per_s, node.share_bytes_per_s * neighbours)
    return np.where(inside, node.inside.bandwidth_bytes_per_s, out)
