"""The lab's transformer against transformers' own Llama, and its pieces against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from labkit import models
from labkit.errors import UsageError
from labkit.models.transformer import rotary_tables, rotate

SMALL = models.TransformerConfig(
    vocab_size=64, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
    num_key_value_heads=2,
)  # fmt: skip


def test_logits_equal_transformers(smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM

    ours = models.load_transformer(smollm2, dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    tokens = torch.randint(0, 49152, (2, 37), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = ours(tokens), theirs(tokens).logits  # (2, 37, 49152)
    assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def test_a_token_sees_only_those_before_it() -> None:
    torch.manual_seed(0)
    model = models.Transformer(SMALL)
    tokens = torch.randint(0, 64, (1, 12))
    changed = tokens.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 64
    before, after = model(tokens), model(changed)
    assert torch.allclose(before[:, :7], after[:, :7], atol=1e-6)
    assert not torch.allclose(before[:, 7:], after[:, 7:], atol=1e-3)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def score(at_q: int, at_k: int) -> float:
        turned = [rotate(x, *rotary_tables(torch.tensor([p]), 16, 10000.0, torch.float32)) for x, p in
                  ((q, at_q), (k, at_k))]  # fmt: skip
        return float((turned[0] * turned[1]).sum())

    assert math.isclose(score(5, 2), score(105, 102), rel_tol=1e-4)
    assert not math.isclose(score(5, 2), score(5, 4), rel_tol=1e-2)


def test_kv_values_per_token_of_published_models() -> None:
    """Llama-2-13B keeps 819,200 bytes a token in 16 bits, Llama-3-70B 320 KiB (scaling book; vLLM paper)."""
    llama2 = models.TransformerConfig(
        hidden_size=5120, num_hidden_layers=40, num_attention_heads=40, num_key_value_heads=40
    )
    llama3 = models.TransformerConfig(
        hidden_size=8192, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8
    )
    assert llama2.kv_values_per_token * 2 == 819_200
    assert llama3.kv_values_per_token * 2 == 320 * 1024


def test_the_labs_own_model_is_divided_by_2_3_and_4_ranks() -> None:
    config = models.TransformerConfig()
    for ranks in (2, 3, 4):
        assert config.num_attention_heads % ranks == config.num_hidden_layers % ranks == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_key_value_heads": 4}, "must divide num_attention_heads; got 4 and 6"),
        ({"hidden_size": 50}, "must divide hidden_size"),
        ({"hidden_size": 18}, "head_dim must be even; got 3"),
        ({"vocab_size": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit(change: dict[str, int], message: str) -> None:
    sizes = {name: getattr(SMALL, name) for name in SMALL.__slots__} | change
    with pytest.raises(UsageError, match=message):
        models.TransformerConfig(**sizes)
