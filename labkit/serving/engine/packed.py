"""Weights laid out for this processor's matrix unit once, not at every call, and joined where inputs are shared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from labkit.models import Transformer
from labkit.models.transformer import Block

__all__ = ["can_pack", "pack_weights"]


class _Packed:
    """Linear layers without bias over the same input, as one matrix in oneDNN's own blocked layout.

    No nn.Module, so that it may take the place of a method as well as that of a layer.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        self.sizes = [linear.out_features for linear in linears]
        joined = torch.cat([linear.weight.detach() for linear in linears])  # (sum of sizes, in_features)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(joined, None)

    def __call__(self, x: Tensor) -> Any:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "")
        return y if len(self.sizes) == 1 else torch.split(y, self.sizes, dim=-1)


def can_pack(transformer: Transformer) -> bool:
    """Whether this torch and this processor can: bfloat16 on x86 CPUs that compute in it."""
    if isinstance(cast(object, transformer.lm_head), _Packed):  # by another runner, before
        return False
    weight = transformer.embed_tokens.weight
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        return False
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack_weights(transformer: Transformer) -> None:
    """Replace every linear layer by a packed one; the layers' own weights are freed.

    The results are the same up to the order in which products are summed.
    """
    for block in cast(Iterable[Block], transformer.layers):
        _replace(block.self_attn, "project", "q_proj", "k_proj", "v_proj")
        _replace(block.self_attn, "o_proj", "o_proj")
        _replace(block.mlp, "project", "gate_proj", "up_proj")
        _replace(block.mlp, "down_proj", "down_proj")
    _replace(transformer, "lm_head", "lm_head")


def _replace(parent: nn.Module, name: str, *linears: str) -> None:
    packed = _Packed(*(getattr(parent, linear) for linear in linears))
    for linear in linears:
        delattr(parent, linear)
    setattr(parent, name, packed)
