"""What an asynchronous checkpoint takes from a training, against a synchronous one and against the time."""

from __future__ import annotations

from functools import cache

from labkit.checkpoint import optimal_interval
from labkit.checkpoint.trials import WriteTimes, measure_writes
from labkit.hardware import machine
from labkit.measure import Measured
from labkit.models import TransformerConfig

__all__ = ["async_over_sync", "overhead"]

ROUNDS = 9
MTBF_S = 54 * 86400 / 419  # Llama 3 405B's, of its published table of interruptions


@cache
def _writes() -> WriteTimes:
    """166 MB of weights and moments; both ways in turns, round by round."""
    [times] = measure_writes([TransformerConfig(num_hidden_layers=6, tie_word_embeddings=False)], rounds=ROUNDS)
    return times


def async_over_sync() -> Measured:
    """Stall of an asynchronous checkpoint ÷ that of a synchronous one, within a round."""
    times = _writes()
    ratios = [a / b for a, b in zip(times.async_stall_s, times.sync_stall_s, strict=True)]
    return Measured.from_samples("async ÷ sync stall", ratios, "×", machine=machine().id, warmup=1)


def overhead() -> Measured:
    """Share of the time, all that an asynchronous checkpoint adds to its round, at the cadence that follows from it."""
    added = [max(one, 1e-3) for one in _writes().async_added_s]
    shares = [one / (one + optimal_interval(one, MTBF_S)) for one in added]
    return Measured.from_samples("share of training time", shares, "", machine=machine().id, warmup=1)
