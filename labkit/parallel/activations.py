"""What a decoder keeps for its backward, in bytes, by what each operation saves.

Korthikanti et al. (2022), section 4, count s·b·h·(34 + 5·a·s/h) bytes a layer for GPT with dropout in 16 bits. The same
count without dropout (2·s·b·h of masks, 3·a·s²·b around the scores) and with a fused attention, which keeps no scores,
gives 32·s·b·h; with Llama's norms and its gated MLP it gives what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import UsageError
from labkit.parallel.shape import ModelShape

__all__ = ["RECOMPUTE", "Activations", "activation_bytes"]

RECOMPUTE = ("none", "selective", "full")
_FP32 = 4  # statistics, upcasts and the loss are in fp32 whatever the rest is in


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """Bytes of one micro-batch on one device.

    layer: what one block needs for its backward; kept: what of it stays from forward to backward; stream: one tensor
    (b, s, h); block_backward: gradients of activations at the start of a block's backward, less what they let go;
    loss, head: of the last norm and the head, in the backward of the loss and then of the head.
    """

    layer: float
    kept: float
    stream: float
    block_backward: float
    loss: float
    head: float


def activation_bytes(
    shape: ModelShape,
    *,
    tokens: int,
    seq_len: int,
    tp: int = 1,
    compute_bytes: int = 2,
    recompute: str = "none",
    sequence_parallel: bool = True,
    fused_norm: bool = True,
    fused_attention: bool = True,
) -> Activations:
    """tokens: of one micro-batch (b · s). Without sequence_parallel every tensor-parallel rank keeps whole streams.

    fused_norm: one kernel that keeps its input alone, as on GPUs; torch's norm on CPUs keeps the normed input as well,
    and an upcast where the input is narrower. fused_attention: no scores are kept (scaled_dot_product_attention).
    """
    if recompute not in RECOMPUTE:
        raise UsageError(f"recompute must be one of {', '.join(RECOMPUTE)}; got {recompute!r}.")
    c, h, i = compute_bytes, shape.hidden_size, shape.intermediate_size
    split = tp if sequence_parallel else 1
    stream = tokens * h * c / split
    norm = stream * 2 + tokens * _FP32 / split  # its input, its output; 1/rms a token
    if not fused_norm:
        norm += stream + (tokens * h * _FP32 / split if c < _FP32 else 0)
    q_size, kv_size = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    attention = tokens * c * (2 * q_size + 2 * kv_size) / tp  # q, what it gathered; k, v
    attention += tokens * shape.num_heads * _FP32 / tp  # log-sum-exp of the scores
    into_mlp = shape.num_mlp_matrices - 1  # gate and up; GPT: one
    mlp = tokens * c * 2 * into_mlp * i / tp  # before and after the activation; gated: silu(gate), up, their product
    scores = 0.0 if fused_attention else tokens * seq_len * shape.num_heads * c / tp
    layer = 2 * norm + attention + mlp + scores
    kept = {"none": layer, "selective": layer - scores, "full": stream}[recompute]
    logits = tokens * shape.vocab_size / tp
    return Activations(
        layer=layer,
        kept=kept,
        stream=stream,
        # The MLP's last product lets its input go while the gradients of it and of what made it are there.
        block_backward=tokens * c * into_mlp * i / tp + stream,
        loss=norm + 3 * _FP32 * logits,  # log-softmax, the gradient of it and that of the logits
        head=norm + c * logits,
    )
