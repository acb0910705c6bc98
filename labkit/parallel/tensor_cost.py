"""What tensor parallelism costs by closed forms: the bytes of its all-reduces, and the time of a step over a link."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import UsageError
from labkit.parallel.heads import need_divided
from labkit.parallel.links import Link, ring_bytes_sent, ring_steps
from labkit.parallel.shape import ModelShape

__all__ = ["ALL_REDUCES_PER_LAYER", "StepTime", "activation_bytes", "step_bytes_sent", "step_flops", "step_time"]

ALL_REDUCES_PER_LAYER = 4  # attention and MLP, each once forward and once backward: Shoeybi et al. (2019), section 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """A step's time on each device of a group: computing, and then sending, which nothing hides."""

    compute_s: float
    communication_s: float

    @property
    def total_s(self) -> float:
        return self.compute_s + self.communication_s

    @property
    def share(self) -> float:
        """Of the step, what goes by in all-reduces."""
        return self.communication_s / self.total_s


def activation_bytes(batch_size: int, seq_len: int, hidden_size: int, bytes_per_value: int = 2) -> int:
    """b·s·h: what one all-reduce carries."""
    return batch_size * seq_len * hidden_size * bytes_per_value


def step_bytes_sent(
    num_layers: int, batch_size: int, seq_len: int, hidden_size: int, world_size: int, bytes_per_value: int = 2
) -> float:
    """Bytes that a rank sends in the layers of one step, forward and backward; with sequence parallelism the same."""
    carried = activation_bytes(batch_size, seq_len, hidden_size, bytes_per_value)
    return num_layers * ALL_REDUCES_PER_LAYER * ring_bytes_sent("all_reduce", carried, world_size)


def step_flops(shape: ModelShape, batch_size: int, seq_len: int) -> float:
    """FLOPs of the layers of one step, forward and backward: 6 a weight and token, and 12·s·d a token in attention.

    d is the width of all heads together. Source: Chowdhery et al. (2022), PaLM, appendix B.
    """
    attention = 12 * seq_len * shape.num_heads * shape.head_dim
    return batch_size * seq_len * shape.num_layers * (6 * shape.layer_matrix_params + attention)


def step_time(
    shape: ModelShape,
    link: Link,
    *,
    world_size: int,
    batch_size: int,
    seq_len: int,
    flops_per_s: float,
    bytes_per_value: int = 2,
    recompute: bool = False,
) -> StepTime:
    """The layers of one step, split over ``world_size`` devices that each reach ``flops_per_s``, joined by ``link``.

    recompute: every layer's forward is done once more in the backward, with its two all-reduces.
    UsageError where the devices do not divide the heads, the KV heads or the MLP's inner units.
    """
    sizes = {
        "num_heads": shape.num_heads,
        "num_kv_heads": shape.num_kv_heads,
        "intermediate_size": shape.intermediate_size,
    }
    need_divided(sizes, world_size)
    if not 0 < flops_per_s < float("inf"):
        raise UsageError(f"flops_per_s must be finite and above 0; got {flops_per_s!r}.")
    if min(batch_size, seq_len, bytes_per_value) < 1:
        raise UsageError(f"A step needs at least one token; got {batch_size} × {seq_len} of {bytes_per_value} bytes.")
    sent = step_bytes_sent(shape.num_layers, batch_size, seq_len, shape.hidden_size, world_size, bytes_per_value)
    steps = shape.num_layers * ALL_REDUCES_PER_LAYER * ring_steps("all_reduce", world_size)
    compute_s = step_flops(shape, batch_size, seq_len) / world_size / flops_per_s
    communication_s = link.time_s(steps, sent)
    if recompute:  # a backward is two forwards in arithmetic, and as much as one in all-reduces
        compute_s, communication_s = compute_s * 4 / 3, communication_s * 3 / 2
    return StepTime(compute_s=compute_s, communication_s=communication_s)
