"""Tensor parallelism by hand and by torch: equal to the whole model, with the collectives that the formulas say."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit import launch
from labkit.errors import UsageError
from labkit.models import Transformer, TransformerConfig
from labkit.parallel import tensor, tensor_cost

BATCH, TOKENS, LAYERS, HIDDEN = 2, 12, 2, 96
ACTIVATION = tensor_cost.activation_bytes(BATCH, TOKENS, HIDDEN, 4)
BY_HAND = ("hand", "hand, sequence")
KINDS = {2: (*BY_HAND, "torch", "torch, sequence"), 3: (*BY_HAND, "torch"), 4: BY_HAND}


def config(**changes: Any) -> TransformerConfig:
    """The lab's 12 heads over a small hidden size."""
    sizes = {"vocab_size": 61, "hidden_size": HIDDEN, "intermediate_size": 192, "num_hidden_layers": LAYERS}
    return TransformerConfig(**(sizes | changes))


def loss_of(model: Transformer, tokens: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(tokens)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()), logits.detach()


def sharded(kind: str, model: Transformer) -> Transformer:
    import torch.distributed as dist

    from labkit.parallel import tensor_torch

    if kind.startswith("hand"):
        return tensor.TensorParallel(model, sequence_parallel="sequence" in kind)
    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
    return tensor_torch.parallelize(model, mesh, sequence_parallel="sequence" in kind)


def every_kind(kinds: tuple[str, ...], model_config: TransformerConfig) -> dict[str, dict[str, Any]]:
    """On one rank: each way of splitting against the whole model, which every rank computes too."""
    import copy

    import torch.distributed as dist

    from labkit.parallel.traffic import count_traffic

    torch.manual_seed(7)
    whole = Transformer(model_config)
    tokens = torch.randint(0, model_config.vocab_size, (BATCH, TOKENS))
    loss, logits = loss_of(whole, tokens)
    loss.backward()
    found: dict[str, dict[str, Any]] = {}
    wanted = {name: parameter.grad for name, parameter in whole.named_parameters()}
    found["whole"] = {"gradients": wanted, "loss": loss.item(), "weights": whole.state_dict()}
    for kind in kinds:
        copied = copy.deepcopy(whole)
        copied.zero_grad()
        mine = sharded(kind, copied)
        loss_of(mine, tokens)  # ranks agree on their tokens at the first call
        with count_traffic() as traffic:
            my_loss, my_logits = loss_of(mine, tokens)
            my_loss.backward()
        gradients: dict[str, Any] = {name: parameter.grad for name, parameter in mine.named_parameters()}
        if kind.startswith("torch"):
            gradients = {name: gradient.full_tensor() for name, gradient in as_dtensors(gradients).items()}
        found[kind] = {
            "gradients": gradients,
            "loss": my_loss.item(),
            "logits": float((my_logits - logits).norm() / logits.norm()),
            "calls": [(call.op, call.num_bytes) for call in traffic.calls],
            "held": sum(parameter.numel() for parameter in mine.parameters()),
        }
    dist.barrier()
    return found


def as_dtensors(gradients: dict[str, Any]) -> dict[str, Any]:
    return {name: g for name, g in gradients.items() if hasattr(g, "full_tensor")}


def apart(got: dict[str, Tensor], want: dict[str, Tensor]) -> tuple[float, float]:
    """‖difference‖ ÷ ‖reference‖: of all tensors together, and of the one where it is largest."""
    differences = torch.stack([(got[name] - want[name]).norm() for name in got])
    sizes = torch.stack([want[name].norm() for name in got])
    return float(differences.norm() / sizes.norm()), float((differences / sizes).max())


def whole_smollm2(folder: str) -> dict[str, float]:
    """On one rank: SmolLM2 in fp32, 9 heads and 3 KV heads, against its own part of the whole model's gradients."""
    import torch.distributed as dist

    from labkit.models import load_transformer

    model = load_transformer(folder, dtype=torch.float32).requires_grad_(True)
    tokens = torch.randint(0, model.config.vocab_size, (1, 9), generator=torch.Generator().manual_seed(3))
    loss, logits = loss_of(model, tokens)
    loss.backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    wanted = tensor.split_state(wanted, dist.get_rank(), dist.get_world_size())
    model.zero_grad()
    mine = tensor.TensorParallel(model, sequence_parallel=True)
    my_loss, my_logits = loss_of(mine, tokens)
    my_loss.backward()
    gradients = {name: parameter.grad for name, parameter in mine.named_parameters() if parameter.grad is not None}
    assert gradients.keys() == wanted.keys()
    together, worst = apart(gradients, wanted)
    return {
        "gradients": together,
        "worst of 272 tensors ÷ 10": worst / 10,  # of some the terms all but cancel: their rounding is relatively more
        "logits": float((my_logits - logits).norm() / logits.norm()),
        "loss": abs(my_loss.item() / loss.item() - 1),
    }


def refusals() -> list[str]:
    """On one rank: what every rank is told of models and tokens that cannot be split or differ."""
    import torch.distributed as dist

    from labkit.parallel import agreement, regions

    rank, told = dist.get_rank(), []
    mixed = Transformer(config())
    mixed.layers[0].mlp.to(torch.bfloat16)
    other_dtype = Transformer(config()).to(torch.float32 if rank == 0 else torch.float64)
    wider = Transformer(config(intermediate_size=192 if rank == 0 else 384))
    split = tensor.TensorParallel(Transformer(config()))
    longer = torch.zeros(1, 6 + 2 * rank, dtype=torch.long)
    others = torch.full((1, 6), rank)
    shared = tensor.TensorParallel(Transformer(config()), sequence_parallel=True)
    attempts = (
        lambda: tensor.TensorParallel(mixed),
        lambda: tensor.TensorParallel(other_dtype),
        lambda: tensor.TensorParallel(wider),
        lambda: tensor.TensorParallel(Transformer(config(num_attention_heads=3, num_key_value_heads=3))),
        lambda: sharded("torch", Transformer(config(num_attention_heads=3, num_key_value_heads=3))),
        lambda: split(longer),
        lambda: split(others),
        lambda: shared(torch.zeros(1, 7, dtype=torch.long)),
        lambda: regions.gather_from_sequence(torch.zeros(4)),
        lambda: agreement.check_agreement({"size": rank}, "Why"),
    )
    for attempt in attempts:
        try:
            attempt()
        except UsageError as error:
            told.append(str(error))
    return told


def on_a_rank(kinds: tuple[str, ...], folder: str) -> dict[str, Any]:
    """All that the tests want of a world of this size: starting its ranks is what costs."""
    import torch.distributed as dist

    world_size = dist.get_world_size()
    found: dict[str, Any] = {"lab": every_kind(kinds, config())}
    if world_size == 2:
        found["refusals"] = refusals()
    if world_size == 3:
        found["grouped"] = every_kind(("hand",), config(num_key_value_heads=6, tie_word_embeddings=False))
        found["smollm2"] = whole_smollm2(folder)
    return found


@functools.cache
def launched(world_size: int, folder: str) -> tuple[Any, ...]:
    return launch.run(on_a_rank, KINDS[world_size], folder, ranks=world_size, backend="gloo").values


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_every_way_of_splitting_equals_the_whole_model(world_size: int, smollm2: Path) -> None:
    found = [one["lab"] for one in launched(world_size, str(smollm2))]
    whole = found[0]["whole"]
    num_layer_weights = LAYERS * (4 * HIDDEN**2 + 3 * HIDDEN * 192)
    for kind in KINDS[world_size]:
        assert [one[kind]["loss"] for one in found] == pytest.approx([whole["loss"]] * world_size, rel=1e-6)
        assert max(one[kind]["logits"] for one in found) <= 1e-5
        gradients = [one[kind]["gradients"] for one in found]
        joined = tensor.join_states(gradients) if kind.startswith("hand") else gradients[-1]
        assert joined.keys() == whole["gradients"].keys() or kind.startswith("torch")
        assert max(apart(joined, whole["gradients"])) <= 1e-5
        assert all(one[kind]["calls"] == found[0][kind]["calls"] for one in found)
    for rank in found:  # what all ranks hold alike is held alike to the last bit
        assert torch.equal(
            rank["hand"]["gradients"]["embed_tokens.weight"], found[0]["hand"]["gradients"]["embed_tokens.weight"]
        )
        other_weights = sum(tensor.numel() for tensor in whole["gradients"].values()) - num_layer_weights
        assert rank["hand"]["held"] == num_layer_weights // world_size + other_weights
    check_collectives({kind: found[0][kind]["calls"] for kind in KINDS[world_size]}, world_size)


def check_collectives(calls: dict[str, list[tuple[str, int]]], world_size: int) -> None:
    """By hand and by torch: 4 all-reduces of b·s·h a layer and step, or 4 of each of its two halves."""
    per_layer = tensor_cost.ALL_REDUCES_PER_LAYER * LAYERS
    assert calls["hand"] == [("all_reduce", ACTIVATION)] * per_layer
    if "torch" in calls:
        assert calls["torch"] == [("all_reduce", ACTIVATION)] * per_layer
    shared = calls["hand, sequence"]
    ends = 2  # the whole sequence before the last norm, and the embedding's gradient
    assert shared.count(("all_gather", ACTIVATION)) == per_layer + ends
    assert shared.count(("reduce_scatter", ACTIVATION)) == per_layer
    assert shared.count(("all_reduce", HIDDEN * 4)) == 2 * LAYERS  # the norms' weights
    assert len(shared) == 2 * per_layer + ends + 2 * LAYERS
    halves = sum(num_bytes for op, num_bytes in shared if op != "all_reduce") - ends * ACTIVATION
    assert halves * (world_size - 1) / world_size == tensor_cost.step_bytes_sent(
        LAYERS, BATCH, TOKENS, HIDDEN, world_size, 4
    )


def test_smollm2_over_three_ranks(smollm2: Path) -> None:
    for found in launched(3, str(smollm2)):
        assert max(found["smollm2"].values()) <= 1e-5, found["smollm2"]


def test_grouped_heads_stay_with_their_keys(smollm2: Path) -> None:
    """Two query heads read each KV head: on three ranks as in the whole model, with a head of its own weights."""
    found = [one["grouped"] for one in launched(3, str(smollm2))]
    joined = tensor.join_states([one["hand"]["gradients"] for one in found])
    assert joined.keys() == found[0]["whole"]["gradients"].keys()
    assert max(apart(joined, found[0]["whole"]["gradients"])) <= 1e-5


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 12])
def test_parts_join_to_the_whole(world_size: int) -> None:
    state = Transformer(config()).state_dict()
    parts = [tensor.split_state(state, rank, world_size) for rank in range(world_size)]
    joined = tensor.join_states(parts)
    assert joined.keys() == state.keys()
    assert all(torch.equal(joined[name], state[name]) for name in state)
    held = tensor.local_config(config(), world_size)
    shapes = {name: parameter.shape for name, parameter in Transformer(held).state_dict().items()}
    assert {name: part.shape for name, part in parts[0].items()} == shapes


@pytest.mark.parametrize(
    ("changes", "world_size", "message"),
    [
        (
            {"num_attention_heads": 8, "num_key_value_heads": 8},
            3,
            "world_size must divide num_heads; got 3 and 8. Use 1, 2, 4 or 8.",
        ),
        (
            {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 90},
            9,
            "world_size must divide num_kv_heads; got 9 and 3. Use 1 or 3.",
        ),
        ({"intermediate_size": 99}, 2, "world_size must divide intermediate_size; got 2 and 99. Use 1 or 3."),
        ({"intermediate_size": 97}, 2, "world_size must divide intermediate_size; got 2 and 97. Use 1."),
        ({}, 0, "world_size must divide num_heads; got 0 and 12."),
    ],
)
def test_a_world_size_that_does_not_divide(changes: dict[str, int], world_size: int, message: str) -> None:
    with pytest.raises(UsageError) as error:
        tensor.local_config(config(**changes), world_size)
    assert message in str(error.value)


def test_every_rank_is_told_what_is_wrong(smollm2: Path) -> None:
    told = [one["refusals"] for one in launched(2, str(smollm2))]
    assert told[0] == told[1]
    wanted = (
        "must have one dtype; got torch.bfloat16 and torch.float32. Convert it with model.to(dtype)",
        "must give the same dtype; rank 0 gave 'torch.float32' and rank 1 'torch.float64'",
        "must give the same config; rank 0 gave TransformerConfig(",
        "world_size must divide num_heads; got 2 and 3. Use 1 or 3.",
        "world_size must divide num_heads; got 2 and 3. Use 1 or 3.",
        "must give the same shape; rank 0 gave (1, 6) and rank 1 (1, 8)",
        "must give the same values (by their checksum)",
        "world_size must divide its tokens; got 2 and 7. Pad the sequence to 8.",
        "needs x of (..., T, hidden_size); got the shape (4,)",
        "Why, so all ranks must give the same size; rank 0 gave 0 and rank 1 1. Give every rank what rank 0 gives.",
    )
    assert len(told[0]) == len(wanted)
    for message, part in zip(told[0], wanted, strict=True):
        assert part in message
