"""The model runner: one step's sequences in, one new token for each out."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Protocol

import torch

from labkit.models import Transformer
from labkit.serving.engine.attention import PagedCache, PagedStep
from labkit.serving.engine.kernels import compile_kernels
from labkit.serving.engine.memory import keep_freed_memory
from labkit.serving.engine.packed import can_pack, pack_weights
from labkit.serving.engine.sampler import sample
from labkit.serving.engine.sequence import Sequence

__all__ = ["ModelRunner", "Runner"]


class Runner(Protocol):
    """What the engine needs of a model: the real one, or a modelled step time in a simulation."""

    num_blocks: int
    block_size: int

    def step(self, batch: Seq[Sequence], num_decodes: int) -> list[int]:
        """The next token of each sequence; the first num_decodes have one new token each, the others are prompts."""
        ...


class ModelRunner:
    """The lab's transformer over a paged cache. It takes the transformer over: its weights are packed on a CPU."""

    def __init__(
        self, transformer: Transformer, *, num_blocks: int, block_size: int = 16, seed: int = 0, packed: bool = True
    ) -> None:
        weight, config = transformer.embed_tokens.weight, transformer.config
        self.num_blocks, self.block_size = num_blocks, block_size
        self.transformer, self.device = transformer.eval(), weight.device
        if self.device.type == "cpu":
            keep_freed_memory()
        kernels = None
        if self.device.type == "cpu" and weight.dtype in (torch.bfloat16, torch.float32):
            kernels = compile_kernels(
                dtype=weight.dtype,
                num_heads=config.num_attention_heads,
                num_kv_heads=config.num_key_value_heads,
                head_dim=config.head_dim,
                block_size=block_size,
            )
        if packed and can_pack(transformer):
            pack_weights(transformer, kernels)
        self.cache = PagedCache(config, num_blocks, block_size, weight.dtype, weight.device, kernels)
        self.generator = torch.Generator(weight.device).manual_seed(seed)

    @torch.inference_mode()
    def step(self, batch: Seq[Sequence], num_decodes: int) -> list[int]:
        step = PagedStep.of(self.cache, batch, num_decodes, self.device)
        hidden = self.transformer.hidden(step.tokens, step.positions, step.attend)  # (N, hidden_size)
        if step.prefills:  # only the last token of each sequence says what comes next
            last = [*range(num_decodes), *(end - 1 for _, end in step.prefills)]
            hidden = hidden[last]
        logits = self.transformer.lm_head(hidden)  # (B, vocab_size)
        return sample(logits, [s.request.temperature for s in batch], self.generator)
