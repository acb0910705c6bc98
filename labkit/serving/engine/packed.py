"""A block's weights laid out for this processor's matrix unit once, and its passes over values folded into products."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.hardware import model_dtype
from labkit.models import Transformer
from labkit.models.transformer import Attend, Block, rotate

__all__ = ["Norm", "PackedBlock", "can_pack", "linear", "linear_and", "pack_weights"]


def linear(x: Tensor, weight: Tensor, then: str = "none") -> Tensor:
    """x times a packed weight, then an element-wise function of oneDNN's: (..., in_features) -> (..., out_features)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, then, [], "")
    return y


def linear_and(x: Tensor, weight: Tensor, other: Tensor, then: str) -> Tensor:
    """The same, its result joined with ``other`` by "add" or "mul" before it is rounded."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, None, then)
    return y


class PackedBlock:
    """A transformer block on packed weights: what Block computes, up to where sums are rounded. It takes the weights.

    No nn.Module: nothing in it is trained, and a call of a module takes as long as a small product.
    """

    def __init__(self, block: Block) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.layer, self.head_dim = attention.layer, attention.head_dim
        self.num_heads, self.num_kv_heads = (
            projection.out_features // attention.head_dim for projection in (attention.q_proj, attention.k_proj)
        )
        self.input_norm, self.mlp_norm = Norm(block.input_layernorm), Norm(block.post_attention_layernorm)
        self.qkv = _packed(attention.q_proj, attention.k_proj, attention.v_proj)
        self.o = _packed(attention.o_proj)
        self.gate, self.up, self.down = (
            _packed(projection) for projection in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        )

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        heads = linear(self.input_norm(x), self.qkv).view(*x.shape[:-1], -1, self.head_dim)
        turned = rotate(heads[..., : -self.num_kv_heads, :], cos, sin)  # queries and keys at once
        q, k = turned[..., : self.num_heads, :], turned[..., self.num_heads :, :]
        gathered = attend(self.layer, q, k, heads[..., -self.num_kv_heads :, :])
        x = linear_and(gathered.flatten(-2), self.o, x, "add")
        y = self.mlp_norm(x)
        y = linear_and(y, self.up, linear(y, self.gate, "swish"), "mul")
        return linear_and(y, self.down, x, "add")


class Norm:
    """RMSNorm in one kernel: torch has such a one for LayerNorm only. Beside its negative a vector's mean is 0, and so
    its LayerNorm is its RMSNorm."""

    def __init__(self, norm: nn.RMSNorm) -> None:
        self.weight = torch.stack((norm.weight, norm.weight)).detach()  # (2, hidden_size)
        self.signs = norm.weight.new_tensor([[1.0], [-1.0]])
        self.eps = cast(float, norm.eps)  # the transformer's norms all have one

    def __call__(self, x: Tensor) -> Tensor:
        both = x.unsqueeze(-2) * self.signs  # (..., 2, hidden_size)
        return F.layer_norm(both, self.weight.shape, self.weight, None, self.eps).select(-2, 0)


def _packed(*linears: nn.Linear) -> Tensor:
    """Linear layers over the same input as one matrix in oneDNN's own blocked layout; theirs are freed."""
    joined = torch.cat([linear.weight.detach() for linear in linears])  # (sum of out_features, in_features)
    for linear in linears:
        del linear.weight
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(joined, None))


def can_pack(transformer: Transformer) -> bool:
    """Whether this torch and this processor can: bfloat16 on x86 CPUs that compute in it."""
    if not isinstance(cast(object, transformer.layers), nn.ModuleList):  # packed by another runner, before
        return False
    weight = transformer.embed_tokens.weight
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and model_dtype("cpu") == "bfloat16"


def pack_weights(transformer: Transformer) -> None:
    """Replace every block, and the head, by a packed one.

    The results are the same up to the order in which products are summed, and to where they are rounded.
    """
    blocks = [PackedBlock(block) for block in cast(Iterable[Block], transformer.layers)]
    head = _packed(transformer.lm_head)
    del transformer.layers, transformer.lm_head
    transformer.layers, transformer.lm_head = blocks, lambda x: linear(x, head)  # type: ignore[assignment]
