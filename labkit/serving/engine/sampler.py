"""The next token from the logits: the most likely one, or one drawn at a temperature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["sample"]


def sample(logits: Tensor, temperatures: Sequence[float], generator: torch.Generator | None = None) -> list[int]:
    """(B, vocab_size) logits and B temperatures -> B token ids; temperature 0 is greedy (the first of equals)."""
    greedy = _most_likely(logits)
    if not any(temperatures):
        return [int(token) for token in greedy.tolist()]
    heat = torch.tensor(temperatures, device=logits.device, dtype=torch.float32)[:, None]
    chances = torch.softmax(logits.float() / heat.clamp_min(1e-6), dim=-1)
    drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
    return [int(token) for token in torch.where(heat[:, 0] > 0, drawn, greedy).tolist()]


def _most_likely(logits: Tensor) -> Tensor:
    """argmax over the vocabulary: the best of each 256, then where it lies. On a CPU in bfloat16 max is five times as
    fast as argmax, and amax, which does not ask where, four times as fast as max."""
    if logits.shape[-1] % 256:
        return logits.max(dim=-1).indices
    parts = logits.reshape(len(logits), logits.shape[-1] // 256, 256)  # (B, vocab_size / 256, 256)
    part = parts.amax(dim=-1).max(dim=-1).indices
    return 256 * part + parts[torch.arange(len(part), device=part.device), part].max(dim=-1).indices
