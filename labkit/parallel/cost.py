"""What parallel training costs by closed forms: bytes of state, FLOPs, days, MFU, the bubble, a ring's traffic."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import UsageError
from labkit.sizes import need_above_0, need_whole

__all__ = [
    "fit_alpha_beta",
    "kv_bytes_per_token",
    "mfu",
    "pipeline_bubble",
    "ring_all_reduce_bytes",
    "state_bytes",
    "training_days",
    "transformer_flops",
]

WEIGHT_BYTES, OPTIMIZER_BYTES = 2, 12  # a parameter in bfloat16; its fp32 copy and Adam's two moments
SECONDS_A_DAY = 86400


def state_bytes(num_params: float, world_size: int, stage: int, bytes_per_param: float = 16) -> float:
    """Bytes of weights, gradients and optimizer state on each device under ZeRO stage 0 (plain data parallel) to 3.

    ``bytes_per_param``: 16 = 2 weights + 2 gradients + 12 optimizer; what exceeds 16 is gradients (18: fp32 ones).
    Activations are not in it. Source: Rajbhandari et al. (2020), figure 1.
    """
    need_above_0(num_params=num_params)
    need_whole(world_size=world_size)
    if stage not in (0, 1, 2, 3):
        raise UsageError(f"stage must be 0, 1, 2 or 3 (0: plain data parallel); got {stage!r}.")
    gradients = bytes_per_param - WEIGHT_BYTES - OPTIMIZER_BYTES
    if not gradients >= 2:  # also true of nan
        raise UsageError(f"bytes_per_param must be at least 16 (2 weights, 2 gradients, 12); got {bytes_per_param!r}.")
    parts = (OPTIMIZER_BYTES, gradients, WEIGHT_BYTES)  # the order in which the stages shard them
    return num_params * (sum(parts[:stage]) / world_size + sum(parts[stage:]))


def transformer_flops(batch_size: int, seq_len: int, num_layers: int, hidden_size: int, vocab_size: int) -> float:
    """FLOPs of one iteration: forward, backward, and the forward once more (activation recomputation).

    96·B·s·l·h²·(1 + s/6h + V/16lh). Source: Narayanan et al. (2021), Megatron-LM, equation 3.
    """
    need_whole(
        batch_size=batch_size, seq_len=seq_len, num_layers=num_layers, hidden_size=hidden_size, vocab_size=vocab_size
    )
    matrices = 96 * batch_size * seq_len * num_layers * hidden_size**2
    attention, head = seq_len / (6 * hidden_size), vocab_size / (16 * num_layers * hidden_size)
    return matrices * (1 + attention + head)


def training_days(
    num_tokens: float,
    num_devices: int,
    flops_per_s_per_device: float,
    batch_size: int,
    seq_len: int,
    num_layers: int,
    hidden_size: int,
    vocab_size: int,
) -> float:
    """Days to train on so many tokens at a rate that each device really reaches (not its peak)."""
    need_above_0(num_tokens=num_tokens, flops_per_s_per_device=flops_per_s_per_device)
    need_whole(num_devices=num_devices)
    flops = transformer_flops(batch_size, seq_len, num_layers, hidden_size, vocab_size)
    iterations = num_tokens / (batch_size * seq_len)
    return iterations * flops / (num_devices * flops_per_s_per_device) / SECONDS_A_DAY


def mfu(
    num_params: float,
    num_layers: int,
    hidden_size: int,
    seq_len: int,
    tokens_per_s_per_device: float,
    peak_flops_per_s: float,
) -> float:
    """Model FLOPs utilisation, a fraction: what the model needs ÷ what the device could do; recomputing earns nothing.

    (6·N + 12·L·d·s) FLOPs a token. Source: Chowdhery et al. (2022), PaLM, appendix B.
    """
    need_above_0(
        num_params=num_params, tokens_per_s_per_device=tokens_per_s_per_device, peak_flops_per_s=peak_flops_per_s
    )
    need_whole(num_layers=num_layers, hidden_size=hidden_size, seq_len=seq_len)
    flops_per_token = 6 * num_params + 12 * num_layers * hidden_size * seq_len
    return flops_per_token * tokens_per_s_per_device / peak_flops_per_s


def pipeline_bubble(num_stages: int, num_microbatches: int, num_chunks: int = 1) -> float:
    """Idle time ÷ ideal time of GPipe and 1F1B, or, with several chunks of layers a stage, of interleaved 1F1B.

    (p − 1)/(v·m); as a share of all the time it is b/(1 + b). Source: Narayanan et al. (2021), section 2.2.
    """
    need_whole(num_stages=num_stages, num_microbatches=num_microbatches, num_chunks=num_chunks)
    return (num_stages - 1) / (num_chunks * num_microbatches)


def ring_all_reduce_bytes(num_bytes: float, world_size: int) -> float:
    """Bytes that each rank sends: 2·(n − 1)/n·S, the fewest with which an all-reduce can do."""
    if not 0 <= num_bytes < float("inf"):
        raise UsageError(f"num_bytes must be finite and at least 0; got {num_bytes!r}.")
    need_whole(world_size=world_size)
    return 2 * (world_size - 1) / world_size * num_bytes


def kv_bytes_per_token(num_layers: int, num_kv_heads: int, head_dim: int, bytes_per_value: int = 2) -> int:
    """Bytes that one token's keys and values take in the cache, over all layers."""
    need_whole(num_layers=num_layers, num_kv_heads=num_kv_heads, head_dim=head_dim, bytes_per_value=bytes_per_value)
    return 2 * num_layers * num_kv_heads * head_dim * bytes_per_value


def fit_alpha_beta(sizes_bytes: ArrayLike, times_s: ArrayLike) -> tuple[float, float]:
    """(α in s, β in s/byte) of time = α + β·size, both at least 0, by least squares of relative errors.

    Relative, so that small messages count as much as large ones. UsageError where the sizes do not differ.
    """
    from scipy.optimize import nnls

    sizes, times = (np.asarray(values, dtype=np.float64).ravel() for values in (sizes_bytes, times_s))
    if sizes.shape != times.shape:
        raise UsageError(f"An α-β fit needs a time for every size; got {len(times)} times for {len(sizes)} sizes.")
    if not (np.isfinite(sizes).all() and np.isfinite(times).all() and (sizes >= 0).all() and (times > 0).all()):
        raise UsageError("An α-β fit needs sizes of at least 0 bytes and times above 0 s.")
    if len(np.unique(sizes)) < 2:
        raise UsageError(f"An α-β fit needs at least two sizes; got {len(np.unique(sizes))}. Measure more of them.")
    unit = sizes.max()  # bytes and their ones, brought to one scale: nnls's tolerance is absolute
    columns = np.column_stack([np.ones_like(sizes), sizes / unit])
    found, _ = nnls(columns / times[:, None], np.ones(len(times)))
    return float(found[0]), float(found[1] / unit)
