"""Attention over keys and values that lie in blocks: decode reads them through block tables, prefill its own prompt."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.models import TransformerConfig, causal_attention
from labkit.serving.engine.kernels import Kernels
from labkit.serving.engine.sequence import Sequence

__all__ = ["PagedCache", "PagedStep", "gathered_attention"]

# (a layer's cache, q, k, v) -> what each query gathered, as q. D tokens, each the newest of its sequence.
Decode = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class PagedCache:
    """Every layer's keys and values: (num_layers, num_blocks, 2 · num_kv_heads, block_size, head_dim), keys first."""

    def __init__(
        self,
        config: TransformerConfig,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        kernels: Kernels | None,
    ) -> None:
        self.block_size, self.pieces_per_block = block_size, 2 * config.num_key_value_heads
        shape = (config.num_hidden_layers, num_blocks, self.pieces_per_block, block_size, config.head_dim)
        self.layers = torch.zeros(shape, dtype=dtype, device=device).unbind()
        # The same memory seen by place, made once: a view in every layer costs a microsecond.
        self.by_place = [layer.flatten(0, 2) for layer in self.layers]
        self.kernels = kernels

    @property
    def num_bytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def decode(self, tables: Tensor, lengths: Tensor) -> Decode:
        """One step's attention of D sequences, in every layer: (D, max_blocks) block tables and (D,) lengths."""
        kernels = self.kernels
        if kernels is None:
            return gathered_attention(tables, lengths, self.pieces_per_block, self.block_size)
        return lambda layer, q, k, v: kernels.paged_attention(q, k, v, layer, tables, lengths)


def gathered_attention(tables: Tensor, lengths: Tensor, pieces_per_block: int, block_size: int) -> Decode:
    """In torch's operations: each sequence's keys and values, the newest among them, are copied side by side."""
    num_seqs, max_blocks = tables.shape
    # A head's part of a block is one piece of memory: (D, 2 · num_kv_heads, max_blocks), as they are to lie.
    pieces = tables[:, None] * pieces_per_block + torch.arange(pieces_per_block, device=tables.device)[:, None]
    mask = (torch.arange(max_blocks * block_size, device=tables.device) < lengths[:, None])[:, None, None]

    def decode(layer: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        read = layer.flatten(0, 1)[pieces]  # (D, 2 · num_kv_heads, max_blocks, block_size, head_dim)
        k, v = read.flatten(2, 3).chunk(2, dim=1)
        # The query heads that share a key head are handed over as its rows: no key is copied for them.
        shared = q.reshape(num_seqs, pieces_per_block // 2, -1, q.shape[-1])
        return F.scaled_dot_product_attention(shared, k, v, attn_mask=mask).reshape(q.shape)

    return decode


@dataclass(slots=True, kw_only=True)
class PagedStep:
    """One step's batch as tensors: decoding sequences first (one token each), then whole prompts. N tokens in all."""

    cache: PagedCache
    tokens: Tensor  # (N,)
    positions: Tensor  # (N,)
    places: Tensor  # (tokens · 2 · num_kv_heads,) where each head's key, then value, of the last so many tokens goes
    num_decodes: int
    decode: Decode
    prefills: list[tuple[int, int]]  # each prompt's range of tokens

    @classmethod
    def of(cls, cache: PagedCache, batch: Seq[Sequence], num_decodes: int, device: torch.device) -> PagedStep:
        size = cache.block_size
        tokens: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        prefills: list[tuple[int, int]] = []
        written_by_decode = num_decodes if cache.kernels else 0
        for index, sequence in enumerate(batch):
            start = len(tokens)
            fresh = range(sequence.num_cached, len(sequence.tokens))
            tokens += sequence.tokens[sequence.num_cached :]
            positions += fresh
            if index >= written_by_decode:
                places += [sequence.blocks[p // size] * cache.pieces_per_block * size + p % size for p in fresh]
            if index >= num_decodes:
                prefills.append((start, len(tokens)))
        decoding = batch[:num_decodes]
        widest = max((len(s.blocks) for s in decoding), default=0)
        tables = [s.blocks + [0] * (widest - len(s.blocks)) for s in decoding]
        heads = torch.arange(cache.pieces_per_block, device=device)
        return cls(
            cache=cache,
            tokens=torch.tensor(tokens, device=device),
            positions=torch.tensor(positions, device=device),
            places=(torch.tensor(places, dtype=torch.long, device=device)[:, None] + heads * size).flatten(),
            num_decodes=num_decodes,
            decode=cache.decode(
                torch.tensor(tables, dtype=torch.long, device=device).view(num_decodes, widest),
                torch.tensor([len(s.tokens) for s in decoding], dtype=torch.long, device=device),
            ),
            prefills=prefills,
        )

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep k and v, then let each query see its own sequence: (N, heads, head_dim) -> the same."""
        if kept := len(self.places) // self.cache.pieces_per_block:
            pieces = torch.cat((k[-kept:], v[-kept:]), dim=1).flatten(0, 1)
            self.cache.by_place[layer].index_copy_(0, self.places, pieces)
        n, cache = self.num_decodes, self.cache.layers[layer]
        if not self.prefills:
            return self.decode(cache, q, k, v)
        gathered = [self.decode(cache, q[:n], k[:n], v[:n])] if n else []
        gathered += [causal_attention(layer, q[None, a:b], k[None, a:b], v[None, a:b])[0] for a, b in self.prefills]
        return torch.cat(gathered)
