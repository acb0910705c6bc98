"""The memory model against torch's trackers, in fake worlds and on real ranks, and against published counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from labkit import launch
from labkit.errors import UsageError
from labkit.models import Transformer, TransformerConfig
from labkit.parallel.activations import activation_bytes
from labkit.parallel.cost import state_bytes
from labkit.parallel.fake_world import FakeStep, FakeWorld, run_fake_worlds
from labkit.parallel.fully_sharded import checkpoint_blocks, loss_of, shard_blocks
from labkit.parallel.memory import CLASSES, PRECISIONS, MemoryUse, peak_memory
from labkit.parallel.shape import SHAPES, ModelShape
from labkit.parallel.tracked_memory import tracked_peak

LAB = TransformerConfig(num_hidden_layers=4)
UNTIED = TransformerConfig(num_hidden_layers=4, tie_word_embeddings=False, num_key_value_heads=4)
SMALL = TransformerConfig(num_hidden_layers=3, hidden_size=192, intermediate_size=512, vocab_size=1024)
WORLDS = (
    FakeWorld(config=LAB, world_size=64, micro_batch=2),
    FakeWorld(config=UNTIED, world_size=256, micro_batch=2, seq_len=512, recompute="full"),
    FakeWorld(config=LAB, world_size=64, stage=2, micro_batch=2, seq_len=256, precision="fsdp-bf16"),
    FakeWorld(config=UNTIED, world_size=8, seq_len=16),
    FakeWorld(config=LAB, world_size=1024, precision="fsdp-bf16", recompute="full"),  # more ranks than rows: padded
    FakeWorld(config=LAB, world_size=512, tp=4),
    FakeWorld(config=SMALL, world_size=2, micro_batch=2, recompute="full"),
)


def predicted(world: FakeWorld) -> MemoryUse:
    return peak_memory(
        ModelShape.of(world.config),
        seq_len=world.seq_len,
        micro_batch=world.micro_batch,
        dp=world.dp,
        stage=world.stage,
        precision=world.precision,
        recompute=world.recompute,
        fused_norm=False,  # as on CPUs, whose kernels the fake tensors follow
    )


@pytest.fixture(scope="module")
def counted() -> tuple[FakeStep, ...]:
    return run_fake_worlds(WORLDS)


@pytest.mark.parametrize("index", range(5))
def test_the_model_is_within_ten_percent_of_the_tracker(index: int, counted: tuple[FakeStep, ...]) -> None:
    step = counted[index]
    assert predicted(step.world).total_bytes == pytest.approx(step.memory.total_bytes, rel=0.1)
    assert predicted(step.world).optimizer == pytest.approx(step.memory.optimizer, rel=0.25, abs=1e5)


def test_checkpointing_and_sharding_lower_the_peak_as_tracked(counted: tuple[FakeStep, ...]) -> None:
    kept = counted[0].memory
    assert kept.activations > kept.state_bytes  # without it activations are most of a sharded step
    assert (
        predicted(WORLDS[1]).activations
        < predicted(FakeWorld(config=UNTIED, world_size=256, micro_batch=2, seq_len=512)).activations
    )


@pytest.mark.parametrize(("index", "gathers"), [(0, 2), (2, 1), (4, 2)])
def test_a_fake_worlds_collectives(index: int, gathers: int, counted: tuple[FakeStep, ...]) -> None:
    step = counted[index]
    groups = step.world.config.num_hidden_layers + 1
    assert step.num_calls("all_gather") == gathers * groups
    assert step.num_calls("reduce_scatter") == groups
    assert {call.world_size for call in step.calls} == {step.world.world_size}
    num_params = ModelShape.of(step.world.config).num_params
    wide = PRECISIONS[step.world.precision]
    if step.world.world_size == 64:  # divides every number of rows
        assert step.payload_bytes("all_gather") == gathers * wide.compute_bytes * num_params
        assert step.payload_bytes("reduce_scatter") == wide.reduce_bytes * num_params
    else:  # 384 rows on 1,024 ranks: each rank gets one, and two of three are padding
        assert step.payload_bytes("all_gather") > gathers * wide.compute_bytes * num_params


def test_tensor_parallel_adds_four_all_reduces_a_block(counted: tuple[FakeStep, ...]) -> None:
    step = counted[5]
    reduces = [call for call in step.calls if call.op == "all_reduce"]
    config, world = step.world.config, step.world
    assert len(reduces) == 4 * config.num_hidden_layers
    assert {call.world_size for call in reduces} == {4}
    assert {call.num_bytes for call in reduces} == {world.micro_batch * world.seq_len * config.hidden_size * 4}
    assert {call.world_size for call in step.calls if call.op == "all_gather"} == {128}


def real_rank() -> MemoryUse:
    torch.manual_seed(0)
    model = shard_blocks(checkpoint_blocks(Transformer(SMALL)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, SMALL.vocab_size, (2, 128))

    def step() -> None:
        loss_of(model, tokens).backward()
        optimizer.step()
        optimizer.zero_grad()

    return tracked_peak(model, optimizer, step, (tokens,), repeats=2)


def test_the_model_is_within_ten_percent_of_real_ranks(counted: tuple[FakeStep, ...]) -> None:
    world, fake = WORLDS[6], counted[6]
    for memory in launch.run(real_rank, ranks=2, backend="gloo").values:
        assert predicted(world).total_bytes == pytest.approx(memory.total_bytes, rel=0.1)
        # The fake world is the real one, but for a buffer that a thread of gloo's still holds.
        assert fake.memory.total_bytes == pytest.approx(memory.total_bytes, rel=0.1)
        assert (fake.memory.weights, fake.memory.optimizer) == (memory.weights, memory.optimizer)


@pytest.mark.parametrize("precision", ["bf16-16", "bf16-18"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_state_is_zeros(precision: str, stage: int) -> None:
    """Weights and optimizer are ZeRO's to the byte, whatever a step adds to them."""
    bits, shape = PRECISIONS[precision], SHAPES["megatron-7.5b"]
    use = peak_memory(shape, seq_len=1, dp=64, stage=stage, precision=precision)
    assert use.weights + use.optimizer == pytest.approx(
        shape.num_params * ((2 / (64 if stage == 3 else 1)) + 12 / (64 if stage else 1)), rel=1e-9
    )
    whole = state_bytes(shape.num_params, 64, stage, bits.bytes_per_param)
    assert use.total_bytes >= whole
    if stage < 2:
        assert use.state_bytes == pytest.approx(whole, rel=1e-9)


def test_gpts_activations_are_megatrons_without_dropout() -> None:
    """Korthikanti et al. (2022): 34·s·b·h + 5·a·s²·b, of which dropout's masks are 2·s·b·h and 3·a·s²·b."""
    gpt, tokens = SHAPES["gpt-3-175b"], 2048
    h, a = gpt.hidden_size, gpt.num_heads
    scores = activation_bytes(gpt, tokens=tokens, seq_len=tokens, fused_attention=False)
    statistics = tokens * 4 * (2 + a)  # 1/σ and log-sum-exp in fp32, which the paper leaves out
    assert scores.layer == tokens * h * 32 + 2 * a * tokens**2 + statistics
    selective = activation_bytes(gpt, tokens=tokens, seq_len=tokens, fused_attention=False, recompute="selective")
    assert selective.kept == tokens * h * 32 + statistics
    assert activation_bytes(gpt, tokens=tokens, seq_len=tokens, recompute="full").kept == tokens * h * 2
    split = activation_bytes(gpt, tokens=tokens, seq_len=tokens, tp=8)
    assert split.layer == pytest.approx((tokens * h * 32 + statistics) / 8)
    uneven = activation_bytes(gpt, tokens=tokens, seq_len=tokens, tp=8, sequence_parallel=False)
    assert uneven.layer == pytest.approx(tokens * h * (8 + 24 / 8) + tokens * 4 * (2 + a / 8))  # 10 + 24/t, less masks


def test_what_lowers_memory_lowers_it() -> None:
    shape, base = SHAPES["llama-3-8b"], {"seq_len": 4096, "dp": 8}
    stages = [peak_memory(shape, stage=stage, **base).total_bytes for stage in range(4)]
    assert stages == sorted(stages, reverse=True)
    for better in ({"recompute": "full"}, {"tp": 2}, {"pp": 2}):
        assert peak_memory(shape, stage=3, **base, **better).total_bytes < stages[3]
    assert peak_memory(shape, stage=3, **base, micro_batch=2).total_bytes > stages[3]
    use = peak_memory(shape, stage=3, **base)
    assert sum(use.by_class[name] for name in CLASSES) == pytest.approx(use.total_bytes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: peak_memory(SHAPES["lab"], seq_len=128, stage=4), "stage must be 0, 1, 2 or 3"),
        (
            lambda: peak_memory(SHAPES["lab"], seq_len=128, tp=5),
            r"tp must divide num_heads; got 5 and 12\. Use one of 1, ",
        ),
        (lambda: peak_memory(SHAPES["lab"], seq_len=128, pp=13), "at most the number of layers; got 13 and 12"),
        (lambda: peak_memory(SHAPES["lab"], seq_len=128, precision="fp8"), "precision must be one of bf16-16"),
        (lambda: peak_memory(SHAPES["lab"], seq_len=128, precision="fsdp-fp32"), "stage 2 or 3; got stage 0"),
        (lambda: peak_memory(SHAPES["lab"], seq_len=128, recompute="half"), "recompute must be one of none"),
        (lambda: peak_memory(SHAPES["lab"], seq_len=0), "seq_len must be a whole number"),
        (lambda: FakeWorld(config=LAB, world_size=10, tp=4), "tp must divide world_size; got 4 and 10"),
        (lambda: FakeWorld(config=LAB, world_size=0), "world_size must be a whole number"),
        (lambda: FakeWorld(config=LAB, world_size=4, stage=1), "like stage 2 or 3; got stage 1"),
        (lambda: FakeWorld(config=LAB, world_size=4, recompute="selective"), 'must be "none" or "full"'),
        (lambda: run_fake_worlds([]), "at least one FakeWorld"),
    ],
)
def test_what_cannot_be_counted(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_more_ranks_than_memory_allows_are_refused_before_the_launch() -> None:
    with pytest.raises(UsageError, match=r"ranks need about .* before they do anything; this machine has"):
        launch.run(real_rank, ranks=100_000, backend="gloo")
