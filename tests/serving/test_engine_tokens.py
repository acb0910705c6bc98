"""The engine's tokens: equal to transformers', alike under every policy, with and without packing and preemption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from labkit import models
from labkit.hardware import model_dtype
from labkit.serving.engine import ModelRunner, run_engine, sample
from labkit.serving.requests import Request
from labkit.serving.workload import QUESTIONS, chat_requests


def requests_of(folder: Path, max_tokens: Sequence[int]) -> list[Request]:
    return list(chat_requests(folder, tuple(max_tokens)))


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    return ModelRunner(models.load_transformer(models.smollm2(), dtype=torch.float32), num_blocks=256)


LENGTHS = [24 - (7 * i) % 17 for i in range(20)]


def test_greedy_tokens_equal_transformers_on_20_prompts(runner: ModelRunner, smollm2: Path) -> None:
    """Given our answer, transformers' most likely next token is ours at every place: so its greedy answer is ours."""
    from transformers import AutoModelForCausalLM

    requests = requests_of(smollm2, LENGTHS)
    run = run_engine(runner, requests, max_num_seqs=8)
    theirs = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    for request, answer in zip(requests, run.answers, strict=True):
        whole = torch.tensor([request.prompt + answer.tokens])
        with torch.no_grad():
            logits = theirs(whole).logits[0]
        wanted = logits[len(request.prompt) - 1 : -1].argmax(-1).tolist()
        assert list(answer.tokens) == wanted


def test_all_policies_give_the_same_tokens(runner: ModelRunner, smollm2: Path) -> None:
    requests = requests_of(smollm2, LENGTHS)
    runs = [run_engine(runner, requests, policy=policy, max_num_seqs=8) for policy in ("naive", "static", "continuous")]
    tokens = [[answer.tokens for answer in run.answers] for run in runs]
    assert tokens[0] == tokens[1] == tokens[2]
    assert runs[2].num_steps < runs[1].num_steps < runs[0].num_steps


def test_preempted_sequences_end_with_the_same_tokens(smollm2: Path) -> None:
    requests = requests_of(smollm2, LENGTHS)[:6]
    transformer = models.load_transformer(smollm2, dtype=torch.float32)
    plenty = run_engine(ModelRunner(transformer, num_blocks=64), requests)
    tight = run_engine(ModelRunner(transformer, num_blocks=14), requests)
    assert sum(answer.num_preemptions for answer in tight.answers) > 0
    assert [a.tokens for a in tight.answers] == [a.tokens for a in plenty.answers]


@pytest.mark.parametrize(("dtype", "off"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_packed_weights_say_nearly_the_same(smollm2: Path, dtype: str, off: float) -> None:
    """Packing changes the order of sums only: the logits stay within their dtype's rounding, on every token."""
    if dtype not in ("float32", model_dtype("cpu")):
        pytest.skip("this processor has no instructions for bfloat16: nothing is packed")
    request = requests_of(smollm2, LENGTHS)[0]
    tokens = torch.tensor([request.prompt])
    plain, packed = (models.load_transformer(smollm2, dtype=getattr(torch, dtype)) for _ in range(2))
    ModelRunner(packed, num_blocks=4)
    ModelRunner(packed, num_blocks=4)  # a second runner over the same model finds it packed and leaves it
    assert isinstance(packed.layers, list) == torch.backends.mkldnn.is_available()
    with torch.inference_mode():
        a, b = plain(tokens).float(), packed(tokens).float()
    assert (a - b).abs().max() <= off * a.abs().max()


def test_an_answer_ends_at_the_end_of_sequence_token_unless_told_otherwise(runner: ModelRunner, smollm2: Path) -> None:
    tokenizer = models.load_tokenizer(smollm2)
    capital = requests_of(smollm2, [30] * 20)[QUESTIONS.index("What is the capital of France?")]
    long = run_engine(runner, [capital], eos_token_id=tokenizer.eos_token_id)
    short = run_engine(
        runner,
        [Request(prompt=capital.prompt, max_tokens=30, ignore_eos=False)],
        eos_token_id=tokenizer.eos_token_id,
    )
    assert len(long.answers[0].tokens) == 30
    assert tokenizer.decode(short.answers[0].tokens, skip_special_tokens=True) == "The capital of France is Paris."
    assert long.answers[0].tokens[: len(short.answers[0].tokens)] == short.answers[0].tokens


def test_sampling_is_greedy_at_zero_and_follows_the_logits_above() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).repeat(4000, 1)
    drawn = torch.tensor(sample(logits, [1.0] * 4000, torch.Generator().manual_seed(0)))
    shares = torch.bincount(drawn, minlength=3) / 4000
    assert torch.allclose(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.03)
    assert sample(logits[:2], [0.0, 0.0]) == [0, 0]
    assert set(sample(logits, [0.0] * 4000)) == {0}
    hot = torch.tensor(sample(logits, [100.0] * 4000, torch.Generator().manual_seed(0)))
    assert torch.bincount(hot).min() > 1100


@pytest.mark.parametrize("vocab_size", [7, 256, 1000, 1024])
def test_greedy_takes_the_first_of_equals(vocab_size: int) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randint(-9, 4, (40, vocab_size), generator=draw).bfloat16()  # the largest comes many times
    logits[0] = -torch.inf
    logits[1, -1] = 9
    first = logits.float().numpy().argmax(axis=1).tolist()
    assert sample(logits, [0.0] * 40) == first
    assert sample(logits.t().contiguous().t(), [0.0] * 40) == first  # however they lie in memory
