"""Attention over keys and values that lie in blocks: decode reads them through block tables, prefill its own prompt."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.models import TransformerConfig, causal_attention
from labkit.serving.engine.sequence import Sequence

__all__ = ["PagedCache", "PagedStep"]

# Keys, over all heads, up to which one fused operation is faster than four that share the work better between cores:
# on two cores 18 against 46 µs for 64 places of one sequence's three heads, 361 against 163 for 128 of 32 sequences.
FEW_PLACES = 1536


class PagedCache:
    """Every layer's keys and values: (num_layers, num_blocks, 2 · num_kv_heads, block_size, head_dim), keys first.

    A head's part of a block is one piece of memory, so that a sequence's keys of one head can be gathered side by side,
    as a product of matrices wants them.
    """

    def __init__(
        self, config: TransformerConfig, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.block_size, self.pieces_per_block = block_size, 2 * config.num_key_value_heads
        shape = (config.num_hidden_layers, num_blocks, self.pieces_per_block, block_size, config.head_dim)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        # The same memory seen by place and by piece, made once: every view in every layer costs a microsecond.
        self.by_place = [layer.flatten(0, 2) for layer in self.values]
        self.by_piece = [layer.flatten(0, 1).flatten(1) for layer in self.values]

    @property
    def num_bytes(self) -> int:
        return self.values.nbytes


@dataclass(slots=True, kw_only=True)
class PagedStep:
    """One step's batch as tensors: decoding sequences first (one token each), then whole prompts. N tokens in all."""

    cache: PagedCache
    tokens: Tensor  # (N,)
    positions: Tensor  # (N,)
    places: Tensor  # (N · 2 · num_kv_heads,) where each head's key, then value, of a token goes
    num_decodes: int
    tables: tuple[Tensor, Tensor]  # (D · num_kv_heads · max_blocks,) each: pieces of keys and values, padded by block 0
    mask: Tensor  # (D · num_kv_heads, 1, max_blocks · block_size) 0 for a sequence's own, -inf for what pads its blocks
    read: tuple[Tensor, ...]  # (as many, numbers of a piece) each: what they hold, memory that every layer uses again
    prefills: list[tuple[int, int]]  # each prompt's range of tokens

    @classmethod
    def of(cls, cache: PagedCache, batch: Seq[Sequence], num_decodes: int, device: torch.device) -> PagedStep:
        size = cache.block_size
        tokens: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        prefills: list[tuple[int, int]] = []
        for index, sequence in enumerate(batch):
            start = len(tokens)
            fresh = range(sequence.num_cached, len(sequence.tokens))
            tokens += sequence.tokens[sequence.num_cached :]
            positions += fresh
            places += [sequence.blocks[p // size] * cache.pieces_per_block * size + p % size for p in fresh]
            if index >= num_decodes:
                prefills.append((start, len(tokens)))
        decoding = batch[:num_decodes]
        widest = max((len(s.blocks) for s in decoding), default=0)
        tables = [s.blocks + [0] * (widest - len(s.blocks)) for s in decoding]
        heads = torch.arange(cache.pieces_per_block, device=device)
        blocks = torch.tensor(tables, dtype=torch.long, device=device).view(num_decodes, 1, widest)
        pieces = blocks * cache.pieces_per_block + heads[:, None]  # (D, 2 · num_kv_heads, max_blocks)
        keys, values = (part.flatten() for part in pieces.chunk(2, dim=1))
        lengths = torch.tensor([len(s.tokens) for s in decoding], device=device)
        padding = torch.arange(widest * size, device=device) >= lengths[:, None]  # (D, max_blocks · block_size)
        mask = torch.zeros(padding.shape, dtype=cache.values.dtype, device=device).masked_fill_(padding, -torch.inf)
        return cls(
            cache=cache,
            tokens=torch.tensor(tokens, device=device),
            positions=torch.tensor(positions, device=device),
            places=(torch.tensor(places, device=device)[:, None] + heads * size).flatten(),
            num_decodes=num_decodes,
            tables=(keys, values),
            mask=mask.repeat_interleave(cache.pieces_per_block // 2, dim=0)[:, None],
            read=cache.values.new_empty((2, len(keys), cache.by_piece[0].shape[1])).unbind(),
            prefills=prefills,
        )

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep k and v, then let each query see its own sequence: (N, heads, head_dim) -> the same."""
        self.cache.by_place[layer].index_copy_(0, self.places, torch.cat((k, v), dim=1).flatten(0, 1))
        num_decodes = self.num_decodes
        gathered = [self._decode(layer, q[:num_decodes])] if num_decodes else []
        gathered += [causal_attention(layer, q[None, a:b], k[None, a:b], v[None, a:b])[0] for a, b in self.prefills]
        return gathered[0] if len(gathered) == 1 else torch.cat(gathered)

    def _decode(self, layer: int, q: Tensor) -> Tensor:
        heads, head_dim = q.shape[1:]
        # Keys and values apart: the core that copies a sequence's part is then the one that multiplies with it.
        for table, part in zip(self.tables, self.read, strict=True):
            torch.index_select(self.cache.by_piece[layer], 0, table, out=part)
        k, v = (part.view(len(self.mask), -1, head_dim) for part in self.read)  # (D · num_kv_heads, places, head_dim)
        # The query heads that share a key head are handed over as its rows: no key is copied for them.
        q = q.reshape(len(self.mask), -1, head_dim)
        if k.shape[0] * k.shape[1] <= FEW_PLACES:
            seen = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], attn_mask=self.mask[:, None])
            return seen.reshape(-1, heads, head_dim)
        scores = torch.add(self.mask, torch.bmm(q, k.transpose(1, 2)), alpha=head_dim**-0.5)
        return torch.bmm(scores.softmax(-1), v).view(-1, heads, head_dim)
