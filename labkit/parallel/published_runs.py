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

__all__ = ["PublishedRun", "fit_efficiency", "megatron_2021", "predicted_flops_per_s"]

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


def megatron_2021() -> tuple[PublishedRun, ...]:
    """The ten runs, from 1.7 billion to a trillion parameters, on DGX A100s."""
    with (catalogue.TABLES / "megatron_2021.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            PublishedRun(
                shape=row["shape"],
                tp=int(row["tp"]),
                pp=int(row["pp"]),
                num_devices=int(row["num_devices"]),
                batch_size=int(row["batch_size"]),
                flops_per_s_per_device=float(row["tflops_per_s_per_device"]) * 1e12,
            )
            for row in csv.DictReader(file)
        )


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
