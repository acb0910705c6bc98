"""The step-time fit: recovered from its own making, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.serving import fit_step_time, output_lengths
from labkit.serving.engine import ModelledRunner, run_engine
from labkit.serving.requests import Request

SECONDS = st.floats(1e-5, 1.0)  # of any size that a part of a step may have


@settings(deadline=None)  # the first call loads scipy
@given(SECONDS, SECONDS, SECONDS)
def test_the_parts_come_back(fixed_s: float, per_sequence_s: float, per_prompt_token_s: float) -> None:
    batches, prompts = np.array([1, 4, 16, 0, 3, 8]), np.array([0, 0, 0, 40, 100, 7])
    times = fixed_s + per_sequence_s * batches + per_prompt_token_s * prompts
    fit = fit_step_time(batches, times, prompts)
    assert fit.error < 1e-6
    assert math.isclose(fit.step_s(5, 20), fixed_s + 5 * per_sequence_s + 20 * per_prompt_token_s, rel_tol=1e-6)


def test_two_parts_without_prompts_and_what_follows_from_them() -> None:
    fit = fit_step_time([1, 4, 16], [0.021, 0.024, 0.036])
    assert math.isclose(fit.fixed_s, 0.020, rel_tol=1e-9)
    assert math.isclose(fit.per_sequence_s, 0.001, rel_tol=1e-9)
    assert math.isclose(fit.half_batch, 20)
    assert math.isclose(fit.ceiling_tokens_per_s, 1000)
    assert math.isclose(fit.tokens_per_s(fit.half_batch), 500)


def test_no_part_is_negative_and_a_flat_step_has_no_ceiling() -> None:
    fit = fit_step_time([1, 2, 4], [0.03, 0.02, 0.01])
    assert fit.per_sequence_s == 0
    assert fit.ceiling_tokens_per_s == fit.half_batch == math.inf


def test_a_modelled_run_is_what_the_fit_finds_again() -> None:
    runner = ModelledRunner(lambda d, p: 0.02 + 0.001 * d + 0.0002 * p, num_blocks=99)
    asked = [
        Request(prompt=(0,) * (5 + n), max_tokens=n) for n in output_lengths(20, median=9, spread=1, longest=40, seed=1)
    ]
    run = run_engine(runner, asked, max_num_seqs=4, clock=runner.clock, sleep=runner.sleep)
    decodes, prompts, seconds = run.step_shapes()
    fit = fit_step_time(decodes, seconds, prompts)
    assert math.isclose(fit.fixed_s, 0.02, rel_tol=1e-6)
    assert math.isclose(fit.per_prompt_token_s, 0.0002, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("batches", "times", "message"),
    [
        ([1, 2], [0.1], "a batch for every time; got 2 for 1 times"),
        ([4, 4], [0.1, 0.1], "differ in each; got 2 steps of 1 kinds"),
        ([1, 2], [0.1, 0.0], "times above 0 s"),
        ([-1, 2], [0.1, 0.2], "at least 0"),
    ],
)
def test_what_cannot_be_fitted(batches: list[int], times: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit_step_time(batches, times)


def test_lengths_are_skewed_seeded_and_bounded() -> None:
    lengths = output_lengths(2000, median=20, spread=0.8, longest=200, seed=3)
    assert lengths == output_lengths(2000, median=20, spread=0.8, longest=200, seed=3)
    assert 18 <= np.median(lengths) <= 22
    assert 1 <= min(lengths) < max(lengths) <= 200
    assert np.mean(lengths) > 1.2 * np.median(lengths)
    assert set(output_lengths(9, median=7, spread=0, longest=10, seed=0)) == {7}
    with pytest.raises(UsageError, match="output_lengths needs"):
        output_lengths(0, median=1, spread=0, longest=1, seed=0)
