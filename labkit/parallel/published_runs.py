"""Training runs that others published, and the one constant that the step-time model takes from them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit.errors import UsageError
from labkit.parallel import catalogue
from labkit.parallel.cost import transformer_flops
from labkit.parallel.shape import named_shape
from labkit.parallel.splits import Job, all_splits
from labkit.parallel.step_time import step_times
from labkit.units import TERA

__all__ = [
    "PublishedDays",
    "PublishedMfu",
    "PublishedRun",
    "fit_efficiency",
    "llm_foundry_2023",
    "megatron_2021",
    "megatron_2021_days",
    "predicted_flops_per_s",
]

SEQ_LEN = 2048
MAX_MICRO_BATCH = (
    4  # the paper tunes the micro-batch for each model and does not print it; none of its figures has more
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """A row of Narayanan et al. (2021), table 1. flops_per_s_per_device: achieved, recomputation counted."""

    shape: str
    tp: int
    pp: int
    num_devices: int
    batch_size: int
    flops_per_s_per_device: float

    @property
    def job(self) -> Job:
        return Job(shape=named_shape(self.shape), batch_size=self.batch_size, seq_len=SEQ_LEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedDays:
    """A row of the same paper's table 2: days for 300 billion tokens. parallelism: "own" or ZeRO-3."""

    shape: str
    batch_size: int
    num_devices: int
    flops_per_s_per_device: float
    days: float
    parallelism: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMfu:
    """A row of llm-foundry's A100 table. tokens_per_s: of all devices; mfu: a fraction."""

    shape: str
    seq_len: int
    num_devices: int
    tokens_per_s: float
    mfu: float


def megatron_2021() -> tuple[PublishedRun, ...]:
    """The ten runs, from 1.7 billion to a trillion parameters, on DGX A100s."""
    return tuple(
        PublishedRun(
            shape=row["shape"],
            tp=int(row["tp"]),
            pp=int(row["pp"]),
            num_devices=int(row["num_devices"]),
            batch_size=int(row["batch_size"]),
            flops_per_s_per_device=float(row["tflops_per_s_per_device"]) * TERA,
        )
        for row in _rows("megatron_2021")
    )


def megatron_2021_days() -> tuple[PublishedDays, ...]:
    """The twelve training times, of two models and two ways to split them."""
    return tuple(
        PublishedDays(
            shape=row["shape"],
            batch_size=int(row["batch_size"]),
            num_devices=int(row["num_devices"]),
            flops_per_s_per_device=float(row["tflops_per_s_per_device"]) * TERA,
            days=float(row["days"]),
            parallelism=row["parallelism"],
        )
        for row in _rows("megatron_2021_days")
    )


def llm_foundry_2023() -> tuple[PublishedMfu, ...]:
    """The rows at 2,048 tokens for one node of A100s."""
    return tuple(
        PublishedMfu(
            shape=row["shape"],
            seq_len=int(row["seq_len"]),
            num_devices=int(row["num_devices"]),
            tokens_per_s=float(row["tokens_per_s"]),
            mfu=float(row["mfu_percent"]) / 100,
        )
        for row in _rows("llm_foundry_2023")
    )


def _rows(table: str) -> list[dict[str, str]]:
    with (catalogue.TABLES / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def predicted_flops_per_s(run: PublishedRun, efficiency: float) -> float:
    """What the step-time model says each device achieved, under the best micro-batch and chunks.

    As Megatron-LM ran in 2021: every block recomputed, scores of attention kept, gradients reduced after the backward.
    """
    job, node = run.job, catalogue.node("a100-80gb")
    splits = all_splits(job, run.num_devices, tp=run.tp, pp=run.pp, stages=(0,), recompute=(1,))
    times = step_times(job, node, splits, efficiency=efficiency, overlap=0.0, fused_attention=False)
    best_s = float(np.min(times.total_s[splits.micro_batch <= MAX_MICRO_BATCH]))
    shape = job.shape
    flops = transformer_flops(run.batch_size, SEQ_LEN, shape.num_layers, shape.hidden_size, shape.vocab_size)
    return flops / (run.num_devices * best_s)


def fit_efficiency(runs: Sequence[PublishedRun]) -> float:
    """The efficiency, to three digits, with the least mean relative error on ``runs``."""
    if not runs:
        raise UsageError("A fit needs at least one published run; got none.")

    def miss(efficiency: float) -> float:
        found = [predicted_flops_per_s(run, efficiency) / run.flops_per_s_per_device - 1 for run in runs]
        return float(np.mean(np.abs(found)))

    coarse = min((number / 50 for number in range(15, 50)), key=miss)
    best: float = min((coarse + number / 1000 for number in range(-20, 21)), key=miss)
    return round(best, 3)
