"""A block's weights laid out for this processor's matrix unit once, and what lies between its products in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.hardware import model_dtype
from labkit.models import Transformer
from labkit.models.transformer import Attend, Block, rotate
from labkit.serving.engine.kernels import Kernels

__all__ = ["PackedBlock", "can_pack", "linear", "pack_weights"]


def linear(x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """x times a packed weight, ``plus`` added before it is rounded: (..., in_features) -> (..., out_features)."""
    product = torch.ops.mkldnn._linear_pointwise
    y: Tensor = (
        product(x, weight, None, "none", [], "") if plus is None else product.binary(x, plus, weight, None, "add")
    )
    return y


class PackedBlock:
    """A transformer block on packed weights: what Block computes, up to where sums are rounded. It takes the weights.

    No nn.Module: nothing in it is trained, and a call of a module takes as long as a small product.
    """

    def __init__(self, block: Block, kernels: Kernels | None) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.kernels = kernels
        self.layer, self.head_dim = attention.layer, attention.head_dim
        self.num_heads, self.num_kv_heads = (
            projection.out_features // attention.head_dim for projection in (attention.q_proj, attention.k_proj)
        )
        self.input_norm, self.mlp_norm = (
            (norm.weight.detach(), cast(float, norm.eps))  # the transformer's norms all have one
            for norm in (block.input_layernorm, block.post_attention_layernorm)
        )
        self.qkv = _packed(attention.q_proj, attention.k_proj, attention.v_proj)
        self.o = _packed(attention.o_proj)
        self.gate_up, self.down = _packed(mlp.gate_proj, mlp.up_proj), _packed(mlp.down_proj)

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        heads = linear(self._norm(x, *self.input_norm), self.qkv).view(*x.shape[:-1], -1, self.head_dim)
        q, k, v = self._rotate(heads, cos, sin)
        gathered = attend(self.layer, q, k, v)
        x = linear(gathered.flatten(-2), self.o, plus=x)
        y = linear(self._norm(x, *self.mlp_norm), self.gate_up)
        return linear(self._swiglu(y), self.down, plus=x)

    def _norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self.kernels.rms_norm(x, weight, eps) if self.kernels else F.rms_norm(x, weight.shape, weight, eps)

    def _rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Seq[Tensor]:
        """(..., heads, head_dim) -> queries and keys, turned, and values."""
        turned = self.num_heads + self.num_kv_heads
        if self.kernels:
            self.kernels.rotate(heads, turned, cos, sin)
        else:
            heads[..., :turned, :] = rotate(heads[..., :turned, :], cos, sin)
        return heads.split_with_sizes((self.num_heads, self.num_kv_heads, self.num_kv_heads), -2)

    def _swiglu(self, gate_up: Tensor) -> Tensor:
        if self.kernels:
            return self.kernels.swiglu(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up


def _packed(*linears: nn.Linear) -> Tensor:
    """Linear layers over the same input as one matrix in oneDNN's own blocked layout; theirs are freed."""
    joined = torch.cat([linear.weight.detach() for linear in linears])  # (sum of out_features, in_features)
    for linear in linears:
        del linear.weight
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(joined, None))


def can_pack(transformer: Transformer) -> bool:
    """Whether this torch can, on a CPU: it has oneDNN, and the weights are float32, or bfloat16 if that is native."""
    if not isinstance(cast(object, transformer.layers), nn.ModuleList):  # packed by another runner, before
        return False
    weight = transformer.embed_tokens.weight
    dtypes = {torch.float32, getattr(torch, model_dtype("cpu"))}
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and weight.device.type == "cpu" and weight.dtype in dtypes


def pack_weights(transformer: Transformer, kernels: Kernels | None) -> None:
    """Replace every block, and the head, by a packed one.

    The results are the same up to the order in which products are summed, and to where they are rounded.
    """
    blocks = [PackedBlock(block, kernels) for block in cast(Iterable[Block], transformer.layers)]
    head = _packed(transformer.lm_head)
    del transformer.layers, transformer.lm_head
    transformer.layers, transformer.lm_head = blocks, lambda x: linear(x, head)  # type: ignore[assignment]
