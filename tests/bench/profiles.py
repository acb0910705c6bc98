"""How far a profile is from the sleeps that were put into a job, and by how much taking it changes a step."""

from __future__ import annotations

import numpy as np
import torch

from labkit import measure, models

__all__ = ["injected_delay_off", "stopwatch_over_plain"]

DELAYS_S = {"wait for data": 0.03, "copy": 0.025, "forward": 0.035, "backward": 0.04, "optimizer": 0.03, "other": 0.028}
STEPS = 25


def job(hidden_size: int, num_layers: int) -> measure.TrainingJob:
    """A small language model on one batch of random tokens, with one thread."""
    torch.set_num_threads(1)
    config = models.TransformerConfig(
        vocab_size=2048, hidden_size=hidden_size, intermediate_size=2 * hidden_size, num_hidden_layers=num_layers,
        num_attention_heads=4, num_key_value_heads=4,
    )  # fmt: skip
    model = models.Transformer(config)
    tokens = torch.randint(2048, (6, 65))

    def loss(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        logits = model(batch[:, :-1])  # (B, T) -> (B, T, vocab_size)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    return measure.TrainingJob(model, torch.optim.AdamW(model.parameters()), [tokens], loss=loss)


def injected_delay_off() -> measure.Measured:
    """|found ÷ put in − 1| of the part that is furthest off, of six in one step."""
    small = job(32, 1)
    clean = measure.profile_training(small, steps=STEPS)
    late = measure.profile_training(measure.delayed(small, DELAYS_S), steps=STEPS)
    misses = []
    for part, delay_s in DELAYS_S.items():
        found_s = np.asarray(late.parts_s[part]) - clean.part(part).value
        misses.append(measure.Measured.from_samples(f"error of {part}", np.abs(found_s / delay_s - 1), ""))
    return max(misses, key=lambda miss: miss.value)


def stopwatch_over_plain() -> measure.Measured:
    """Seconds of a watched step ÷ those of the unwatched one beside it."""
    return measure.profile_training(job(128, 4), steps=3 * STEPS).disturbance
