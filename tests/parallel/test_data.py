"""Data parallel by hand and torch's, held to one process; its buckets, its traffic, and what goes wrong."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import launch
from labkit.errors import DeadlineError, LabError, LaunchError, UsageError
from labkit.models import Transformer, TransformerConfig
from labkit.parallel.data import DataParallel, shard_batch
from labkit.parallel.traffic import count_traffic

CONFIG = TransformerConfig(vocab_size=64, hidden_size=48, intermediate_size=96)  # 12 heads, 12 layers
NUM_PARAMS = 64 * 48 + 12 * (4 * 48 * 48 + 3 * 48 * 96 + 2 * 48) + 48  # embedding and head are one
BATCH = torch.randint(64, (24, 9), generator=torch.Generator().manual_seed(1))


def model(seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(CONFIG)


def loss_of(module: nn.Module, tokens: Tensor) -> Tensor:
    logits = module(tokens[:, :-1])  # (B, T) -> (B, T, vocab_size)
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train(module: nn.Module, tokens: Tensor, num_accumulated: int = 1, steps: int = 2) -> tuple[list[float], Tensor]:
    """The losses, and the gradients of the last step in one vector."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)  # Adam makes rounding errors as large as gradients
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for index, part in enumerate(tokens.chunk(num_accumulated)):
            last = index == num_accumulated - 1
            with nullcontext() if last or not hasattr(module, "no_sync") else module.no_sync():
                loss = loss_of(module, part) / num_accumulated
                loss.backward()
            total += float(loss.detach())
        gradients = [p.grad.clone() for p in module.parameters() if p.grad is not None]
        optimizer.step()
        losses.append(total)
    return losses, torch.cat([g.flatten() for g in gradients])


def train_every_way() -> dict[int, dict[str, Any]]:
    groups = {size: dist.new_group(range(size)) for size in (2, 3, 4)}
    out: dict[int, dict[str, Any]] = {}
    for size, group in groups.items():
        if dist.get_rank() >= size:
            continue
        mine = shard_batch(BATCH, group)
        assert len(mine) == 24 // size
        seed = dist.get_rank()  # rank 0's parameters must be given to all
        made = {
            "by hand": DataParallel(model(seed), group),
            "torch": nn.parallel.DistributedDataParallel(model(), process_group=group),
        }
        if size == 3:
            made["small buckets"] = DataParallel(model(seed), group, bucket_bytes=20_000)
            made["no overlap"] = DataParallel(model(seed), group, bucket_bytes=20_000, overlap=False)
        out[size] = {name: mean_over_ranks(*train(module, mine), group) for name, module in made.items()}
        accumulating = DataParallel(model(seed), group)
        with count_traffic() as traffic:
            result = train(accumulating, mine, num_accumulated=2)
        out[size]["accumulated"] = mean_over_ranks(*result, group)
        out[size]["calls"] = [(call.op, call.num_bytes, call.world_size) for call in traffic.calls]
        out[size]["buckets"] = {name: len(one.buckets) for name, one in made.items() if name != "torch"}
    return out


def mean_over_ranks(losses: list[float], gradients: Tensor, group: dist.ProcessGroup) -> tuple[list[float], Tensor]:
    total = torch.tensor(losses, dtype=torch.float64)
    dist.all_reduce(total, group=group)
    return (total / dist.get_world_size(group)).tolist(), gradients


def far(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def test_losses_and_gradients_are_those_of_one_process() -> None:
    losses, gradients = train(model(), BATCH)
    for rank, by_size in enumerate(launch.run(train_every_way, ranks=4, backend="gloo").values):
        assert list(by_size) == [size for size in (2, 3, 4) if rank < size]
        for size, found in by_size.items():
            for name in ("by hand", "torch", *(("small buckets", "no overlap") if size == 3 else ())):
                assert far(torch.tensor(found[name][0]), torch.tensor(losses)) <= 1e-6, (size, name)
                assert far(found[name][1], gradients) <= 1e-6, (size, name)
            assert far(found["accumulated"][1], gradients) <= 1e-6
            # Accumulated over two micro-batches, and still one all-reduce a step, of every gradient once
            assert found["calls"] == [("all_reduce", 4 * NUM_PARAMS, size)] * 2
            assert found["buckets"]["by hand"] == 1
            assert size != 3 or found["buckets"]["small buckets"] == found["buckets"]["no overlap"] >= 12


def bad_inputs() -> list[str]:
    rank = dist.get_rank()

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    tries = [
        lambda: DataParallel(nn.Linear(3 + rank, 2)),
        lambda: DataParallel(mixed),
        lambda: DataParallel(nn.ReLU()),
        lambda: DataParallel(nn.Linear(2, 2), bucket_bytes=0),
        lambda: DataParallel(Half())(torch.ones(1, 2)).sum().backward(),
        lambda: shard_batch(torch.ones(9, 1)),
    ]
    said = []
    for attempt in tries:
        try:
            attempt()
        except UsageError as error:
            said.append(str(error))
    return said


def test_what_cannot_be_trained_is_said_on_every_rank() -> None:
    for said in launch.run(bad_inputs, ranks=2, backend="gloo", deadline_s=60).values:
        assert len(said) == 6, said
        assert "the same weight; rank 0 gave '(2, 3) of torch.float32' and rank 1 '(2, 4) of torch.float32'" in said[0]
        assert "must have one dtype; got torch.float32 (0.weight) and torch.float64 (1.weight)" in said[1]
        assert "nothing to train" in said[2]
        assert "bucket_bytes must be above 0; got 0" in said[3]
        assert "none came to unused.bias, unused.weight" in said[4]
        assert said[5] == "world_size must divide the batch; got 2 and 9. Use 1, 3 or 9."


@pytest.mark.parametrize(("fault", "error"), [("dies", LaunchError), ("hangs", DeadlineError)])
def test_a_rank_that_is_lost_in_the_backward_is_named(fault: str, error: type[LabError]) -> None:
    def lose_one() -> None:
        parallel = DataParallel(nn.Linear(4, 4))
        loss = parallel(torch.ones(2, 4)).sum()
        if dist.get_rank() == 1 and fault == "dies":
            os._exit(3)
        if dist.get_rank() == 1:
            time.sleep(60)
        loss.backward()

    with pytest.raises(error, match="rank 1"):
        launch.run(lose_one, ranks=2, backend="gloo", deadline_s=8)


def test_watch_sees_each_bucket_in_order() -> None:
    def watched() -> list[tuple[int, float, float]]:
        seen: list[tuple[int, float, float]] = []
        chain = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(4)))
        parallel = DataParallel(chain, bucket_bytes=256, watch=lambda *event: seen.append(event))
        parallel(torch.ones(2, 8)).sum().backward()
        return seen

    for seen in launch.run(watched, ranks=1, backend="gloo").values:
        assert [bucket for bucket, _, _ in seen] == [0, 1, 2, 3]
        assert all(start <= end for _, start, end in seen)
