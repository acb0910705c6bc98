"""A workload that every engine can be given: real questions, and answers whose lengths differ as real ones do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labkit.errors import UsageError
from labkit.models import load_tokenizer
from labkit.serving.requests import Request

__all__ = ["QUESTIONS", "chat_requests", "output_lengths"]

QUESTIONS = (
    "Why is the sky blue?", "Write a haiku about rain.", "What is the capital of France?", "List three prime numbers.",
    "Explain gravity to a child.", "Translate 'good morning' into Spanish.", "What does a compiler do?",
    "Name a large river in Africa.", "How do bees make honey?", "What is 17 plus 25?", "Who wrote Hamlet?",
    "Give me a recipe for pancakes.", "What is photosynthesis?", "Summarise the plot of Cinderella.",
    "Which planet is the largest?", "How does a bicycle stay upright?", "Define inflation in one sentence.",
    "What is the boiling point of water?", "Write a short poem on autumn.", "Why do cats purr?",
)  # fmt: skip


def output_lengths(num_requests: int, *, median: float, spread: float, longest: int, seed: int) -> tuple[int, ...]:
    """Log-normal answer lengths in tokens, 1 to ``longest``. spread: the standard deviation of their logarithm.

    Chat traffic is skewed like that: in Azure's public conversation trace the median answer has 129 tokens and the
    longest more than ten times as many (Splitwise, Patel et al. 2024). spread 0 makes all lengths equal.
    """
    if num_requests < 1 or not (median >= 1 and spread >= 0 and longest >= 1):
        raise UsageError(
            "output_lengths needs num_requests, median and longest of at least 1 and a spread of at least 0; "
            f"got {num_requests}, {median}, {longest} and {spread}."
        )
    drawn = median * np.exp(spread * np.random.default_rng(seed).standard_normal(num_requests))
    return tuple(int(n) for n in np.clip(np.rint(drawn), 1, longest))


def chat_requests(model: str | Path, lengths: tuple[int, ...]) -> tuple[Request, ...]:
    """One request a length, over the questions in turn, in the model's chat template. Answers run to their length."""
    tokenizer = load_tokenizer(model)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        for question in QUESTIONS[: len(lengths)]
    ]
    return tuple(
        Request(prompt=tuple(prompts[index % len(prompts)]), max_tokens=length) for index, length in enumerate(lengths)
    )
