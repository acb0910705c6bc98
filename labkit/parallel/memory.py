"""Peak memory of a training step on one device, by class, from closed forms: ZeRO's state and what a step adds to it.

The state is Rajbhandari et al. (2020), section 3; the activations Korthikanti et al. (2022), adapted in `activations`;
what is gathered and reduced meanwhile is in `moments`.
"""

from __future__ import annotations

from labkit.errors import UsageError
from labkit.parallel.activations import activation_bytes
from labkit.parallel.moments import CLASSES, MemoryUse, moments, stage_parts
from labkit.parallel.precision import PRECISIONS, Precision
from labkit.parallel.shape import ModelShape
from labkit.sizes import divisors, need_whole

__all__ = ["CLASSES", "PRECISIONS", "MemoryUse", "Precision", "peak_memory"]


def peak_memory(
    shape: ModelShape,
    *,
    seq_len: int,
    micro_batch: int = 1,
    dp: int = 1,
    tp: int = 1,
    pp: int = 1,
    stage: int = 0,
    precision: str = "bf16-18",
    recompute: str = "none",
    in_flight: float | None = None,
    sequence_parallel: bool = True,
    fused_norm: bool = True,
    fused_attention: bool = True,
) -> MemoryUse:
    """The peak of one step on the fullest of dp · tp · pp devices.

    micro_batch: sequences that a device computes at once; stage: ZeRO 0 to 3 over the dp ranks; precision: of
    PRECISIONS; recompute: "none", "selective" (attention scores) or "full" (all but each block's input); in_flight:
    micro-batches whose activations the first pipeline stage holds (default: pp, as in 1F1B); sequence_parallel,
    fused_norm, fused_attention: see `activation_bytes`. UsageError for what cannot be.
    """
    _check(shape, tp, pp, stage, precision)
    need_whole(seq_len=seq_len, micro_batch=micro_batch, dp=dp)
    bits = PRECISIONS[precision]
    acts = activation_bytes(
        shape,
        tokens=micro_batch * seq_len,
        seq_len=seq_len,
        tp=tp,
        compute_bytes=bits.compute_bytes,
        recompute=recompute,
        sequence_parallel=sequence_parallel,
        fused_norm=fused_norm,
        fused_attention=fused_attention,
    )
    uses = (
        use
        for part in stage_parts(shape, tp, pp, float(pp if in_flight is None else in_flight), dp)
        for use in moments(part, acts, bits, dp, stage)
    )
    return max(uses, key=lambda use: use.total_bytes)


def _check(shape: ModelShape, tp: int, pp: int, stage: int, precision: str) -> None:
    if stage not in (0, 1, 2, 3):
        raise UsageError(f"stage must be 0, 1, 2 or 3 (0: plain data parallel); got {stage!r}.")
    if precision not in PRECISIONS:
        raise UsageError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if PRECISIONS[precision].gathers and stage < 2:
        raise UsageError(f"fully_shard shards weights, which is stage 2 or 3; got stage {stage} with {precision!r}.")
    need_whole(tp=tp, pp=pp)
    if shape.num_heads % tp:
        fits = ", ".join(map(str, divisors(shape.num_heads)))
        raise UsageError(f"tp must divide num_heads; got {tp} and {shape.num_heads}. Use one of {fits}.")
    if pp > shape.num_layers:
        raise UsageError(f"pp must be at most the number of layers; got {pp} and {shape.num_layers}.")
