"""A shape's counts against llm-foundry's published ones, Megatron's formula, and the real modules."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from labkit.errors import UsageError
from labkit.models import Transformer, TransformerConfig
from labkit.parallel.shape import SHAPES, ModelShape, named_shape


@pytest.mark.parametrize(
    "config",
    [
        TransformerConfig(),
        TransformerConfig(num_key_value_heads=3, tie_word_embeddings=False),
        TransformerConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, explicit_head_dim=32),
    ],
)
def test_a_shape_counts_what_the_module_holds(config: TransformerConfig) -> None:
    with torch.device("meta"):
        model = Transformer(config)
    shape = ModelShape.of(config)
    assert shape.num_params == sum(parameter.numel() for parameter in model.parameters())
    assert shape.layer_params == sum(parameter.numel() for parameter in model.layers[0].parameters())
    assert shape.head_dim == config.head_dim


def test_the_labs_own_model_is_the_default_config() -> None:
    assert SHAPES["lab"] == ModelShape.of(TransformerConfig())


def test_mpts_parameters_to_the_last_one(reference: Path) -> None:
    with (reference / "llm_foundry_mfu" / "a100_80gb.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["SeqLen (T)"] == "2048" and f"mpt-{row['Model']}" in SHAPES]
    assert len(rows) >= 5
    for row in rows:
        assert SHAPES[f"mpt-{row['Model']}"].num_params == int(row["NumParams"]), row["Model"]


@pytest.mark.parametrize("name", [name for name in SHAPES if name.startswith(("megatron", "gpt"))])
def test_megatrons_formula(name: str) -> None:
    """12·l·h²·(1 + 13/12h + (V + s)/12lh), Narayanan et al. (2021), equation 2; it leaves out the last norm's 2h."""
    shape = SHAPES[name]
    n, h = shape.num_layers, shape.hidden_size
    by_formula = 12 * n * h * h + 13 * n * h + (shape.vocab_size + shape.num_positions) * h
    assert shape.num_params == by_formula + 2 * h


@pytest.mark.parametrize(
    ("name", "billions"),
    [("llama-2-7b", 6.738), ("llama-2-13b", 13.016), ("llama-2-70b", 68.977), ("llama-3-8b", 8.030)]
    + [("llama-3-70b", 70.554), ("llama-3-405b", 405.85), ("smollm2-135m", 0.1345), ("megatron-1t", 1008.0)],
)
def test_published_sizes(name: str, billions: float) -> None:
    assert named_shape(name).num_params / 1e9 == pytest.approx(billions, rel=5e-4)


def test_shapes_that_cannot_be() -> None:
    good = {"num_layers": 2, "hidden_size": 8, "intermediate_size": 16, "num_heads": 2, "num_kv_heads": 1}
    for wrong, message in [
        ({"num_layers": 0}, "at least 1"),
        ({"num_heads": 3}, "num_heads must divide hidden_size; got 3 and 8"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads must divide num_heads; got 3 and 4"),
    ]:
        with pytest.raises(UsageError, match=message):
            ModelShape(**(good | wrong), vocab_size=10)
    with pytest.raises(UsageError, match=r"No model is named 'llama-9'. There are: lab, "):
        named_shape("llama-9")
