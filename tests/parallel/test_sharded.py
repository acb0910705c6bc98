"""ZeRO by hand and fully_shard against one process, on real ranks: weights, losses, and every byte that was sent."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from labkit import launch
from labkit.errors import UsageError
from labkit.models import Transformer, TransformerConfig
from labkit.parallel import cost
from labkit.parallel.fully_sharded import checkpoint_blocks, loss_of, shard_blocks
from labkit.parallel.sharded import zero
from labkit.parallel.traffic import Call, count_traffic

RANKS, STEPS, BATCH = 3, 4, 6
TIED = TransformerConfig(
    vocab_size=96, hidden_size=48, intermediate_size=66, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip
ODD = TransformerConfig(  # 3,500 parameters a block, which 3 does not divide
    vocab_size=97, hidden_size=20, intermediate_size=31, num_hidden_layers=3, num_attention_heads=2,
    num_key_value_heads=2, tie_word_embeddings=False,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trained:
    weights: Tensor  # (P,)
    losses: tuple[float, ...]
    calls: tuple[Call, ...] = ()
    bytes_sent: float = 0.0


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3)


def batches(config: TransformerConfig) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, config.vocab_size, (BATCH, 8), generator=generator) for _ in range(STEPS)]


def flat(model: nn.Module) -> Tensor:
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return torch.cat([p.detach().flatten() for p in whole])


def train(
    model: nn.Module, config: TransformerConfig, step: Callable[[], object], rank: int = 0, ranks: int = 1
) -> Any:
    losses = []
    for tokens in batches(config):
        with count_traffic() as traffic:
            loss = loss_of(model, tokens.chunk(ranks)[rank])
            loss.backward()
            step()
        losses.append(loss.item())
    return losses, traffic


def fresh(config: TransformerConfig) -> Transformer:
    torch.manual_seed(0)
    return Transformer(config)


def alone(config: TransformerConfig) -> Trained:
    model = fresh(config)
    optimizer = adamw(model.parameters())

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    losses, _ = train(model, config, step)
    return Trained(weights=flat(model), losses=tuple(losses))


def by_hand(config: TransformerConfig, stage: int) -> Trained:
    model = fresh(config)
    sharded = zero(model, adamw, stage=stage)
    losses, traffic = train(model, config, sharded.step, dist.get_rank(), dist.get_world_size())
    for unit in sharded.units:
        unit.gather()
    return Trained(weights=flat(model), losses=mean(losses), calls=traffic.calls, bytes_sent=traffic.bytes_sent)


def by_torch(config: TransformerConfig, stage: int) -> Trained:
    model = shard_blocks(checkpoint_blocks(fresh(config)) if stage == 3 else fresh(config), stage=stage)
    optimizer = adamw(model.parameters())

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    losses, traffic = train(model, config, step, dist.get_rank(), dist.get_world_size())
    return Trained(weights=flat(model), losses=mean(losses), calls=traffic.calls, bytes_sent=traffic.bytes_sent)


def by_redundancy_optimizer(config: TransformerConfig) -> Trained:
    from torch.distributed.optim import ZeroRedundancyOptimizer
    from torch.nn.parallel import DistributedDataParallel

    model = fresh(config)
    parallel = DistributedDataParallel(model)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=1e-3)

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    losses, _ = train(parallel, config, step, dist.get_rank(), dist.get_world_size())
    return Trained(weights=flat(model), losses=mean(losses))


def mean(losses: list[float]) -> tuple[float, ...]:
    together = torch.tensor(losses)
    dist.all_reduce(together)
    return tuple((together / dist.get_world_size()).tolist())


def held() -> list[tuple[int, int, bool]]:
    sharded = zero(fresh(TIED), adamw, stage=3)
    return [(unit.shard.numel(), unit.flat.untyped_storage().size(), unit.is_whole) for unit in sharded.units]


def mixed() -> str:
    model = fresh(TIED)
    model.layers[1].mlp.to(torch.bfloat16)
    try:
        zero(model, adamw, stage=2)
    except UsageError as error:
        return str(error)
    return "taken"


def all_ways() -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{name} by hand, stage {stage}": by_hand(config, stage) for name, config in CONFIGS for stage in (1, 2, 3)
    }
    found |= {f"tied by torch, stage {stage}": by_torch(TIED, stage) for stage in (2, 3)}
    found |= {"held at stage 3": held(), "mixed dtypes": mixed()}
    return found | {"tied by ZeroRedundancyOptimizer": by_redundancy_optimizer(TIED)}


CONFIGS = (("tied", TIED), ("odd", ODD))


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, Trained], ...]:
    return launch.run(all_ways, ranks=RANKS, backend="gloo").values


@pytest.fixture(scope="module")
def reference() -> dict[str, Trained]:
    return {name: alone(config) for name, config in CONFIGS}


WAYS = [f"{name} by hand, stage {stage}" for name, _ in CONFIGS for stage in (1, 2, 3)]
WAYS += ["tied by torch, stage 2", "tied by torch, stage 3", "tied by ZeroRedundancyOptimizer"]


@pytest.mark.parametrize("way", WAYS)
def test_weights_and_losses_are_those_of_one_process(
    way: str, trained: tuple[dict[str, Trained], ...], reference: dict[str, Trained]
) -> None:
    want = reference[way.split()[0]]
    for rank in range(RANKS):
        got = trained[rank][way]
        assert float((got.weights - want.weights).norm() / want.weights.norm()) <= 1e-6
        assert got.losses == pytest.approx(want.losses, rel=1e-6)


def test_stage_1_and_the_librarys_own_give_the_same_weights(trained: tuple[dict[str, Trained], ...]) -> None:
    ours, theirs = trained[0]["tied by hand, stage 1"], trained[0]["tied by ZeroRedundancyOptimizer"]
    assert float((ours.weights - theirs.weights).norm() / theirs.weights.norm()) <= 1e-6


def padded_bytes(config: TransformerConfig, ranks: int) -> int:
    model = fresh(config)
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.layers]
    rest = sum(p.numel() for p in model.parameters()) - sum(blocks)
    return sum(-(-size // ranks) * ranks for size in [*blocks, rest]) * 4


@pytest.mark.parametrize(("stage", "gathers"), [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_bytes_are_two_psi_and_three_psi(
    stage: int, gathers: int, name: str, config: TransformerConfig, trained: tuple[dict[str, Trained], ...]
) -> None:
    found = trained[1][f"{name} by hand, stage {stage}"]
    psi = padded_bytes(config, RANKS)
    exact = sum(p.numel() for p in fresh(config).parameters()) * 4
    assert (psi == exact) == (name == "tied")  # the one divides, the other is padded
    share = (RANKS - 1) / RANKS
    assert found.bytes_sent == (1 + gathers) * psi * share
    assert sum(call.num_bytes for call in found.calls if call.op == "reduce_scatter") == psi
    if gathers == 1:
        assert found.bytes_sent == cost.ring_all_reduce_bytes(psi, RANKS)  # no more than plain data parallel


@pytest.mark.parametrize(("stage", "gathers"), [(2, 1), (3, 2)])
def test_fully_shard_sends_what_the_hand_written_one_sends(
    stage: int, gathers: int, trained: tuple[dict[str, Trained], ...]
) -> None:
    theirs, ours = trained[0][f"tied by torch, stage {stage}"], trained[0][f"tied by hand, stage {stage}"]
    assert theirs.bytes_sent == ours.bytes_sent
    assert [call.op for call in theirs.calls].count("all_gather") == gathers * 4  # three blocks and the rest


def test_a_shard_is_an_nth_and_what_was_released_takes_nothing(trained: tuple[dict[str, Any], ...]) -> None:
    for found in trained:
        assert sum(size for size, _, _ in found["held at stage 3"]) * RANKS * 4 == padded_bytes(TIED, RANKS)
        assert all((num_bytes, whole) == (0, False) for _, num_bytes, whole in found["held at stage 3"])


def test_mixed_dtypes_are_refused_with_what_was_found(trained: tuple[dict[str, Any], ...]) -> None:
    assert "one dtype on one device; got torch.bfloat16 on cpu, torch.float32 on cpu" in trained[0]["mixed dtypes"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zero(fresh(TIED), adamw, stage=4), "stage must be 1, 2 or 3; got 4"),
        (lambda: zero(nn.Linear(2, 2), adamw, stage=2), "needs model.layers, a ModuleList; Linear has none"),
        (lambda: shard_blocks(fresh(TIED), stage=1), "like stage 2 or 3; got 1"),
        (lambda: shard_blocks(fresh(TIED), precision="bf16-18"), 'must be "fsdp-fp32" or "fsdp-bf16"'),
    ],
)
def test_what_cannot_be_sharded(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_unused_copy_is_not_the_reference() -> None:
    """The reference really moves: a run that never trained would not pass as equal."""
    model = copy.deepcopy(fresh(TIED))
    moved = alone(TIED).weights - flat(model)
    assert float(moved.norm() / flat(model).norm()) > 1e-2
