"""Real ranks with a slow one among them, and with a flipped bit: what each takes, what all take, who is named."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.launch import run
from labkit.measure import OnProgress
from labkit.monitors.alert import Alert

if TYPE_CHECKING:
    from labkit.models import TransformerConfig

__all__ = ["BLOCKS", "WatchedRanks", "watch_ranks"]

# In turns, so that a machine that drifts treats all alike; the second is the first again (A/A).
BLOCKS = ("healthy", "healthy again", "straggler")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRanks:
    """Seconds by block, each (rounds, steps, ranks). own_s: until a rank's own gradients are ready; step_s: the whole.

    check_s: (checks,) seconds of one comparison of all weights on the slowest rank; flip_step: after which step of the
    last part, in which the weights are compared after each, the bit was flipped; alerts: what the comparison said.
    """

    own_s: Mapping[str, NDArray[np.float64]]
    step_s: Mapping[str, NDArray[np.float64]]
    losses: NDArray[np.float64]
    check_s: NDArray[np.float64]
    flip_step: int
    alerts: tuple[Alert, ...]


def watch_ranks(
    config: TransformerConfig,
    *,
    num_ranks: int = 2,
    rounds: int = 9,
    steps: int = 12,
    slow_rank: int = 1,
    slowdown: float = 1.3,
    batch_size: int = 4,
    seq_len: int = 64,
    num_checks: int = 12,
    seed: int = 0,
    deadline_s: float = 240.0,
    on_progress: OnProgress | None = None,
) -> WatchedRanks:
    """Train data parallel in one launch. The straggler idles after its own work, as a device clocked down by
    ``slowdown`` would be late. UsageError: sizes that make no such run."""
    if not (0 <= slow_rank < num_ranks and num_ranks >= 2 and slowdown >= 1):
        raise UsageError(
            f"A slow rank is one of at least 2, and slower; got rank {slow_rank} of {num_ranks}, {slowdown} times."
        )
    if min(rounds, steps, batch_size, seq_len) < 1 or num_checks < 4:
        raise UsageError(f"At least one round, one step and 4 checks are needed; got {rounds}, {steps}, {num_checks}.")
    options = {
        "rounds": rounds, "steps": steps, "slow_rank": slow_rank, "slowdown": slowdown, "batch_size": batch_size,
        "seq_len": seq_len, "num_checks": num_checks, "seed": seed,
    }  # fmt: skip
    launched = run(
        _train, config, options, ranks=num_ranks, backend="gloo", deadline_s=deadline_s, on_progress=on_progress
    )
    values = launched.values
    by_block: list[dict[str, NDArray[np.float64]]] = []
    for part in (0, 1):  # own, whole
        times = np.stack([value["times"][..., part] for value in values], axis=-1)  # (rounds, blocks, steps, ranks)
        by_block.append({block: times[:, index] for index, block in enumerate(BLOCKS)})
    return WatchedRanks(
        own_s=by_block[0], step_s=by_block[1], losses=np.mean([value["losses"] for value in values], axis=0),
        check_s=np.max([value["check_s"] for value in values], axis=0), flip_step=num_checks // 2,
        alerts=tuple(values[0]["alerts"]),
    )  # fmt: skip


def _train(config: TransformerConfig, options: dict[str, Any]) -> dict[str, Any]:
    """On one rank: (rounds, blocks, steps, 2) seconds, own and whole; the losses; the checks."""
    import torch.distributed as dist

    from labkit.monitors.replicas import ReplicaMonitor, flip_bit, gather_checksums

    model, step = _prepare(config, options)
    rank, slow = dist.get_rank(), options["slow_rank"]
    step(0.0)  # warms up
    times = np.empty((options["rounds"], len(BLOCKS), options["steps"], 2))
    losses = []
    for turn in range(options["rounds"]):
        for index in range(len(BLOCKS)) if turn % 2 == 0 else reversed(range(len(BLOCKS))):
            idle = options["slowdown"] - 1 if BLOCKS[index] == "straggler" and rank == slow else 0.0
            dist.barrier()
            for number in range(options["steps"]):
                *times[turn, index, number], loss = step(idle)
                losses.append(loss)
    weights, monitor = dict(model.named_parameters()), ReplicaMonitor()
    check_s, alerts = [], []
    for number in range(options["num_checks"]):
        step(0.0)
        if number == options["num_checks"] // 2 and rank == slow:
            flip_bit(model.layers[0].mlp.up_proj.weight, 7, 12)
        dist.barrier()
        started = time.perf_counter()
        sums = gather_checksums(weights)
        check_s.append(time.perf_counter() - started)
        alerts += monitor.update(number, sums)
    return {"times": times, "losses": losses, "check_s": check_s, "alerts": alerts}


def _prepare(config: TransformerConfig, options: dict[str, Any]) -> tuple[Any, Any]:
    """The model, and its step: (idle share) -> own seconds, whole seconds, loss."""
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F

    from labkit.models import Transformer

    torch.manual_seed(options["seed"])  # equal weights on every rank
    model = Transformer(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(options["seed"] + 1 + dist.get_rank())  # a batch of its own
    tokens = torch.randint(config.vocab_size, (options["batch_size"], options["seq_len"] + 1), generator=generator)
    params = list(model.parameters())

    def step(idle: float) -> tuple[float, float, float]:
        started = time.perf_counter()
        optimizer.zero_grad()
        logits = model(tokens[:, :-1])  # (B, T) -> (B, T, vocab_size)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        if idle:
            time.sleep(idle * (time.perf_counter() - started))
        own_s = time.perf_counter() - started
        flat = torch.cat([p.grad.flatten() for p in params if p.grad is not None])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        at = 0
        for p in params:
            p.grad = flat[at : at + p.numel()].view_as(p)
            at += p.numel()
        optimizer.step()
        return own_s, time.perf_counter() - started, float(loss.detach())

    return model, step
