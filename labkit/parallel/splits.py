"""The plans there are: every split of a job over so many devices, as columns of numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.parallel.shape import ModelShape
from labkit.sizes import divisors

__all__ = ["AXES", "Job", "Splits", "all_splits"]

AXES = ("tp", "pp", "dp", "stage", "recompute", "micro_batch", "num_chunks")
MAX_MICRO_BATCH = 64
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be trained. batch_size: sequences a step, over all devices; precision: of memory.PRECISIONS."""

    shape: ModelShape
    batch_size: int
    seq_len: int
    num_tokens: float = 0.0
    precision: str = "bf16-18"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.seq_len < 1:
            raise UsageError(f"A job has at least 1 sequence of 1 token; got {self.batch_size} of {self.seq_len}.")
        if not 0 <= self.num_tokens < float("inf"):
            raise UsageError(f"num_tokens must be finite and at least 0; got {self.num_tokens!r}.")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.seq_len


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Columns of one length. recompute: 1 where all but each block's input is computed again in the backward."""

    tp: Ints
    pp: Ints
    dp: Ints
    stage: Ints
    recompute: Ints
    micro_batch: Ints
    num_chunks: Ints
    num_microbatches: Ints

    def __len__(self) -> int:
        return len(self.tp)

    def row(self, index: int) -> dict[str, int]:
        return {name: int(getattr(self, name)[index]) for name in (*AXES, "num_microbatches")}


def all_splits(
    job: Job,
    num_devices: int,
    *,
    tp: int | None = None,
    pp: int | None = None,
    stages: Sequence[int] = (0, 1, 2, 3),
    recompute: Sequence[int] = (0, 1),
    micro_batch: int | None = None,
    num_chunks: int | None = None,
    devices_per_node: int = 1,
) -> Splits:
    """Every plan with dp · tp · pp = num_devices whose sizes divide; tp, pp, … fix one. UsageError where none does.

    devices_per_node: the number of devices that an error suggests is a multiple of it.
    """
    if num_devices < 1:
        raise UsageError(f"A plan needs at least 1 device; got {num_devices}.")
    _check(job, num_devices, tp, pp)
    rows: list[tuple[int, ...]] = []
    for t, p, d in _meshes(job, num_devices, tp, pp):
        here = _stages(stages, d)
        for micro, chunks, m in _schedules(job, p, d, micro_batch, num_chunks):
            rows += [(t, p, d, z, r, micro, chunks, m) for z, r in itertools.product(here, recompute)]
    if not rows:
        fixed = {"tp": tp, "pp": pp, "micro_batch": micro_batch, "num_chunks": num_chunks}
        raise UsageError(_nothing(job, num_devices, fixed, devices_per_node))
    columns: dict[str, Any] = dict(zip((*AXES, "num_microbatches"), np.array(rows, dtype=np.int64).T, strict=True))
    return Splits(**columns)


def _meshes(job: Job, num_devices: int, tp: int | None, pp: int | None) -> Iterator[tuple[int, int, int]]:
    for t in divisors(num_devices) if tp is None else [tp]:
        for p in divisors(num_devices // t) if pp is None else [pp]:
            d = num_devices // (t * p)
            if d and job.shape.num_heads % t == 0 and job.shape.num_layers % p == 0 and job.batch_size % d == 0:
                yield t, p, d


def _stages(stages: Sequence[int], dp: int) -> Sequence[int]:
    """Nothing can be sharded over one rank: then all stages are stage 0."""
    return stages if dp > 1 else [0]


def _schedules(
    job: Job, p: int, d: int, micro_batch: int | None, num_chunks: int | None
) -> Iterator[tuple[int, int, int]]:
    """(micro_batch, num_chunks, num_microbatches). Interleaving wants micro-batches in groups of p."""
    own = job.batch_size // d
    sizes = _powers_of_2(MAX_MICRO_BATCH) if micro_batch is None else [micro_batch]
    for micro in sizes:
        if own % micro:
            continue
        m = own // micro
        layers = job.shape.num_layers // p
        chunks = divisors(layers) if num_chunks is None else [num_chunks]
        for v in chunks:
            if v == 1 or (p > 1 and m % p == 0 and layers % v == 0):
                yield micro, v, m


def _check(job: Job, num_devices: int, tp: int | None, pp: int | None) -> None:
    shape = job.shape
    for name, size, noun, whole in (
        ("tp", tp, "num_heads", shape.num_heads),
        ("pp", pp, "num_layers", shape.num_layers),
    ):
        if size is not None and (size < 1 or whole % size):
            fits = ", ".join(map(str, divisors(whole)))
            raise UsageError(f"{name} must divide {noun}; got {size} and {whole}. Use one of {fits}.")
    group = (tp or 1) * (pp or 1)
    if num_devices % group:
        raise UsageError(f"tp · pp must divide the number of devices; got {group} and {num_devices}.")
    if tp is not None and pp is not None and job.batch_size % (num_devices // group):
        dp = num_devices // group
        raise UsageError(
            f"dp must divide the batch; got {dp} and {job.batch_size} sequences. Use a multiple of {dp} sequences."
        )


def _nothing(job: Job, num_devices: int, fixed: Mapping[str, int | None], devices_per_node: int) -> str:
    """Which of the sizes does not go into which, and a number of devices that would."""
    asked = ", ".join(f"{name} {value}" for name, value in fixed.items() if value is not None)
    cure = "another batch"
    counts = range(devices_per_node, num_devices, devices_per_node)
    near = [n for n in counts if next(_meshes(job, n, None, None), None) is not None]
    if near and not asked:
        cure = f"{near[-1]} devices, or {cure}"
    return (
        f"No split of {num_devices} devices divides {job.shape.num_heads} heads (tp), {job.shape.num_layers} layers "
        f"(pp) and a batch of {job.batch_size} (dp · micro_batch){f' with {asked}' if asked else ''}. Use {cure}."
    )


def _powers_of_2(largest: int) -> list[int]:
    return [2**i for i in range(largest.bit_length())]
