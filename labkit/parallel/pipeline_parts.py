"""A transformer cut into parts of consecutive layers; the first also embeds, the last also answers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from labkit.errors import UsageError
from labkit.models import Transformer, causal_attention
from labkit.models.transformer import rotary_tables
from labkit.sizes import divisors, either

__all__ = ["Part", "part_layers"]


def part_layers(num_layers: int, num_parts: int, part: int) -> range:
    """The layers of one part. UsageError where the parts would not be equal: the longest would set every one's pace."""
    if not 0 <= part < num_parts:
        raise UsageError(f"part must lie in 0 to {num_parts - 1}; got {part}.")
    if num_layers % num_parts:
        raise UsageError(
            f"stages × chunks must divide num_layers; got {num_parts} and {num_layers}. "
            f"Use {either(divisors(num_layers))}."
        )
    each = num_layers // num_parts
    return range(part * each, (part + 1) * each)


class Part(nn.Module):
    """One part of ``model``, sharing its parameters under their own names.

    The first takes tokens (B, T), the others what the part before gave (B, T, hidden_size); the last gives logits.
    """

    def __init__(self, model: Transformer, num_parts: int, part: int) -> None:
        super().__init__()
        self.config = model.config
        layers = part_layers(model.config.num_hidden_layers, num_parts, part)
        self.embed_tokens = model.embed_tokens if part == 0 else None
        self.layers = nn.ModuleDict({str(layer): model.layers[layer] for layer in layers})
        last = part == num_parts - 1
        self.norm = model.norm if last else None
        self.lm_head = model.lm_head if last else None

    def forward(self, x: Tensor) -> Tensor:
        if self.embed_tokens is not None:
            x = self.embed_tokens(x)  # (B, T) -> (B, T, hidden_size)
        positions = torch.arange(x.shape[1], device=x.device)
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        for block in self.layers.values():
            x = block(x, cos, sin, causal_attention)
        if self.norm is None or self.lm_head is None:
            return x
        return cast(Tensor, self.lm_head(self.norm(x)))  # (B, T, hidden_size) -> (B, T, vocab_size)
