"""One Llama-architecture transformer in plain torch: read it, train it, split it, serve it.

Modules are named as in Hugging Face's Llama, so a checkpoint's tensors need no renaming.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.errors import UsageError

__all__ = [
    "MLP",
    "Attend",
    "Attention",
    "Block",
    "Transformer",
    "TransformerConfig",
    "causal_attention",
    "rotary_tables",
    "rotate",
]

# (layer, q, k, v) -> what each query gathered. q: (..., T, num_heads, head_dim); k, v: (..., T, num_kv_heads, head_dim)
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """The defaults are the lab's own small model: 12 heads and 12 layers, which 2, 3 and 4 ranks divide."""

    vocab_size: int = 4096
    hidden_size: int = 384
    intermediate_size: int = 1024
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_key_value_heads: int = 12
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = True
    explicit_head_dim: int | None = None

    def __post_init__(self) -> None:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        sizes = (self.vocab_size, self.hidden_size, self.intermediate_size, self.num_hidden_layers, heads, kv_heads)
        if min(sizes) < 1:
            raise UsageError(f"Every size of a transformer must be at least 1; got {self}.")
        if heads % kv_heads:
            raise UsageError(f"num_key_value_heads must divide num_attention_heads; got {kv_heads} and {heads}.")
        if self.explicit_head_dim is None and self.hidden_size % heads:
            raise UsageError(f"num_attention_heads must divide hidden_size; got {heads} and {self.hidden_size}.")
        if self.head_dim % 2:
            raise UsageError(f"Rotary positions turn pairs, so head_dim must be even; got {self.head_dim}.")

    @property
    def head_dim(self) -> int:
        return self.explicit_head_dim or self.hidden_size // self.num_attention_heads

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token keeps in the KV cache, over all layers; times bytes a number: its KV bytes."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim


def rotary_tables(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(..., T) positions -> cos, and sin with its first half negative, each (..., T, 1, head_dim), for ``rotate``."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = (positions[..., None].float() * theta**-exponents)[..., None, :]  # (..., T, 1, head_dim / 2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + head_dim/2]) by its position's angle (Su et al. 2021): (..., T, heads, head_dim)."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def causal_attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each token attends to itself and to those before it: (B, T, heads, head_dim) -> the same."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, heads, T, head_dim)
    gathered = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
    return gathered.transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        hidden, q_size = config.hidden_size, config.num_attention_heads * config.head_dim
        kv_size = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(hidden, q_size, bias=False)
        self.k_proj = nn.Linear(hidden, kv_size, bias=False)
        self.v_proj = nn.Linear(hidden, kv_size, bias=False)
        self.o_proj = nn.Linear(q_size, hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        # The heads are counted from what came: a tensor-parallel rank holds only some of them.
        projected = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (y.view(*x.shape[:-1], -1, self.head_dim) for y in projected)
        gathered = attend(self.layer, rotate(q, cos, sin), rotate(k, cos, sin), v)
        return cast(Tensor, self.o_proj(gathered.flatten(-2)))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))


class Block(nn.Module):
    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, attend)
        return cast(Tensor, x + self.mlp(self.post_attention_layernorm(x)))


class Transformer(nn.Module):
    """Token ids to logits. ``attend`` is what differs between training (causal) and serving (a cache)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def hidden(self, tokens: Tensor, positions: Tensor | None = None, attend: Attend = causal_attention) -> Tensor:
        """What the last layer says of each token: (..., T) -> (..., T, hidden_size)."""
        if positions is None:
            positions = torch.arange(tokens.shape[-1], device=tokens.device)
        x = self.embed_tokens(tokens)  # (..., T) -> (..., T, hidden_size)
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        for block in self.layers:
            x = block(x, cos, sin, attend)
        return cast(Tensor, self.norm(x))

    def forward(self, tokens: Tensor, positions: Tensor | None = None, attend: Attend = causal_attention) -> Tensor:
        """(..., T) -> (..., T, vocab_size)."""
        return cast(Tensor, self.lm_head(self.hidden(tokens, positions, attend)))
