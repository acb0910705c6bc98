"""Data parallel by hand against the library's: the ring all-reduce and gloo's, our DDP and torch's."""

from __future__ import annotations

import functools

import numpy as np

from labkit import launch, measure, models
from labkit.parallel.trials import Trial, measure_steps
from labkit.units import MIB

__all__ = ["ddp_over_torch", "ring_over_gloo"]

ROUNDS = 15


def ring_over_gloo() -> measure.Measured:
    """Seconds of the ring by hand ÷ gloo's, 64 MB on 4 ranks, within each round; the slowest rank's time of each."""

    def both() -> dict[str, tuple[float, ...]]:
        import torch
        import torch.distributed as dist

        from labkit.parallel.collectives import ring_all_reduce

        data = torch.ones(16_000_000)  # 64 MB
        steps = {"ring": functools.partial(ring_all_reduce, data), "gloo": functools.partial(dist.all_reduce, data)}
        return measure.alternate(steps, rounds=ROUNDS)

    ranks = launch.run(both, ranks=4, backend="gloo").values
    ring, gloo = (np.max([value[name] for value in ranks], axis=0) for name in ("ring", "gloo"))
    return measure.Measured.from_samples("ring by hand ÷ gloo, seconds", ring / gloo, "×")


def ddp_over_torch() -> measure.Measured:
    """Seconds of a training step under DDP by hand ÷ torch's, 2 ranks, the lab's 12-layer transformer."""
    config = models.TransformerConfig(vocab_size=512, hidden_size=192, intermediate_size=512)
    hand = Trial(num_ranks=2, batch_size=4, bucket_bytes=4 * MIB)
    torch_own = Trial(num_ranks=2, batch_size=4, bucket_bytes=4 * MIB, by_torch=True)
    ours, theirs = measure_steps(config, [hand, torch_own], rounds=3 * ROUNDS, warmup=3)
    return measure.Measured.from_samples("DDP by hand ÷ torch's, seconds", ours.step_s / theirs.step_s, "×")
