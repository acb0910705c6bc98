"""A small data-parallel job, trained for real in one process, with a fault put into it and every monitor watching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from labkit.errors import UsageError
from labkit.monitors.alert import Alert
from labkit.monitors.faults import Fault
from labkit.monitors.replicas import flip_bit
from labkit.monitors.shards import ShardReader, make_shards
from labkit.monitors.step_times import draw_step_times
from labkit.monitors.thresholds import Thresholds
from labkit.monitors.watch import Watch

__all__ = ["DrillConfig", "DrillRun", "run_drill"]

Weights = dict[str, Tensor]  # each (ranks, …): every rank's own copy


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillConfig:
    """batch_size: examples of one rank's shard; check_every: steps between two comparisons of the replicas."""

    num_ranks: int = 4
    num_shards: int = 48
    batch_size: int = 16
    num_steps: int = 60
    learning_rate: float = 0.1
    check_every: int = 5
    num_features: int = 16
    hidden_size: int = 32
    num_classes: int = 8

    def __post_init__(self) -> None:
        if self.num_shards % self.num_ranks or self.num_ranks < 2:
            raise UsageError(
                f"At least 2 ranks must divide num_shards; got {self.num_ranks} and {self.num_shards}. Use 4 and 48."
            )
        if min(self.num_steps, self.check_every, self.batch_size) < 1 or not self.learning_rate > 0:
            raise UsageError(f"A drill needs steps, a batch, a check now and then and a learning rate; got {self}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRun:
    """What the monitors saw and said. times_s: (steps, ranks); peaks: of the sums that need a threshold."""

    seed: int
    fault: Fault | None
    losses: NDArray[np.float64]
    gradient_norms: NDArray[np.float64]
    times_s: NDArray[np.float64]
    alerts: tuple[Alert, ...]
    peaks: Mapping[str, float]
    sums: Mapping[str, NDArray[np.float64]]  # of each monitor that has one, by step


def run_drill(
    seed: int,
    fault: Fault | None = None,
    *,
    config: DrillConfig | None = None,
    thresholds: Thresholds | None = None,
) -> DrillRun:
    """Train, inject, watch. The training, its data and its faults are real; the ranks' times are drawn (`step_times`),
    because ranks that share one process have no times of their own."""
    config = config or DrillConfig()
    if fault is not None and (fault.rank >= config.num_ranks or fault.step >= config.num_steps):
        raise UsageError(f"The drill has {config.num_ranks} ranks and {config.num_steps} steps; got {fault}.")
    weights = _start(config, seed)
    shards, labels = make_shards(config, seed)
    readers = [ShardReader(config, seed, rank, fault) for rank in range(config.num_ranks)]
    times_s = draw_step_times(config.num_steps, config.num_ranks, seed, fault)
    watch = Watch(config, thresholds or Thresholds())
    for step in range(config.num_steps):
        reads = [reader.next(step) for reader in readers]
        batch = torch.stack([shards[shard] for _, shard in reads])  # (ranks, B, features)
        wanted = torch.stack([labels[shard] for _, shard in reads])  # (ranks, B)
        loss, gradients = _backward(weights, batch, wanted)
        _inject(fault, step, weights, gradients)
        watch.before_reduce(step, reads, times_s[step], gradients)
        means = {name: gradient.mean(dim=0) for name, gradient in gradients.items()}  # what an all-reduce gives
        norm = float(torch.stack([mean.square().sum() for mean in means.values()]).sum().sqrt())
        rate = config.learning_rate
        if fault is not None and fault.kind == "divergence" and step >= fault.step:
            rate *= fault.size
        for name, weight in weights.items():
            weight -= rate * means[name]  # (ranks, …) − (…): each rank's copy takes the same step
        watch.after_step(step, loss, norm, weights)
    watch.finish(config.num_steps - 1)
    return DrillRun(
        seed=seed, fault=fault, losses=np.array(watch.losses), gradient_norms=np.array(watch.norms), times_s=times_s,
        alerts=tuple(watch.alerts), peaks=watch.peaks, sums=watch.sums,
    )  # fmt: skip


def _start(config: DrillConfig, seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "w1": (config.num_features, config.hidden_size), "b1": (config.hidden_size,),
        "w2": (config.hidden_size, config.num_classes), "b2": (config.num_classes,),
    }  # fmt: skip
    weights = {}
    for name, shape in shapes.items():
        scale = shape[0] ** -0.5 if len(shape) == 2 else 0.0
        one = scale * torch.randn(shape, generator=generator)
        weights[name] = one.repeat(config.num_ranks, *(1 for _ in shape))  # equal to the last bit
    return weights


def _backward(weights: Weights, batch: Tensor, wanted: Tensor) -> tuple[float, Weights]:
    """The mean loss over ranks, and each rank's own gradient, (ranks, …) a weight."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    hidden = F.relu(torch.baddbmm(leaves["b1"][:, None], batch, leaves["w1"]))  # (ranks, B, hidden)
    logits = torch.baddbmm(leaves["b2"][:, None], hidden, leaves["w2"])  # (ranks, B, classes)
    losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view(wanted.shape).mean(dim=1)
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
    return float(losses.detach().mean()), dict(zip(leaves, gradients, strict=True))


def _inject(fault: Fault | None, step: int, weights: Weights, gradients: Weights) -> None:
    if fault is None or step != fault.step or fault.kind not in ("NaN element", "flipped bit"):
        return
    tensors = gradients if fault.kind == "NaN element" else weights
    sizes = {name: tensor[fault.rank].numel() for name, tensor in tensors.items() if name.startswith("w")}
    element = int(fault.position * sum(sizes.values()))
    names = list(sizes)
    while element >= sizes[names[0]]:
        element -= sizes[names.pop(0)]
    own = tensors[names[0]][fault.rank]
    if fault.kind == "NaN element":
        own.view(-1)[element] = float("nan")
    else:
        flip_bit(own, element, fault.bit)
