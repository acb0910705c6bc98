"""Real ranks, sums in few bits, and what a threshold costs: counts and closed forms, never a clock."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.errors import UsageError
from labkit.models import TransformerConfig
from labkit.monitors.ranks import BLOCKS, watch_ranks
from labkit.monitors.reduction import sum_in
from labkit.monitors.step_times import draw_step_times
from labkit.monitors.trade_off import modelled_trade_off, resampled_trade_off

TINY = TransformerConfig(
    vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2,
)  # fmt: skip


def test_on_three_real_ranks_the_flipped_bit_is_named_and_healthy_ones_are_equal_to_the_last_bit() -> None:
    options = {"rounds": 2, "steps": 2, "batch_size": 1, "seq_len": 8, "num_checks": 6}
    watched = watch_ranks(TINY, num_ranks=3, slow_rank=1, **options)
    assert [(alert.step, alert.where) for alert in watched.alerts] == [(3, "rank 1")]
    assert watched.alerts[0].evidence["tensor"] == "layers.0.mlp.up_proj.weight"
    assert watched.flip_step == 3
    assert {block: times.shape for block, times in watched.own_s.items()} == dict.fromkeys(BLOCKS, (2, 2, 3))
    for block in BLOCKS:
        assert (watched.own_s[block] > 0).all()
        assert (watched.step_s[block] >= watched.own_s[block]).all()
    assert watched.losses.shape == (12,)
    assert watched.check_s.shape == (6,)


def test_sizes_that_make_no_such_run() -> None:
    with pytest.raises(UsageError, match="got rank 2 of 2"):
        watch_ranks(TINY, slow_rank=2)
    with pytest.raises(UsageError, match="4 checks are needed"):
        watch_ranks(TINY, num_checks=1)


def test_float16_overflows_and_bfloat16_swallows_what_float32_adds() -> None:
    ones = [torch.full((8,), 40_000.0)] + [torch.full((8,), 40_000.0)]
    assert sum_in(torch.float16, ones).num_non_finite == 8  # 80,000 > 65,504
    assert sum_in(torch.float32, ones).num_non_finite == 0
    many = [torch.ones(4)] * 1024
    swallowed = sum_in(torch.bfloat16, many)
    assert swallowed.total.tolist() == [256.0] * 4  # 256 + 1 rounds to 256 with eight bits of mantissa
    assert swallowed.error == pytest.approx(0.75)
    assert sum_in(torch.float32, many).error == 0.0
    assert sum_in(torch.float16, [torch.ones(1)], scale=1e6).num_non_finite == 1
    with pytest.raises(UsageError, match="at least one tensor"):
        sum_in(torch.float32, [])


def test_normal_noise_is_found_as_late_as_the_closed_form_says() -> None:
    times = np.exp(np.random.default_rng(1).normal(0, 0.1, (4000, 2)))
    # the logarithms' difference has √2 times the deviation; where the slow rank is slower, the other is the median
    thresholds = (0.4, 0.8, 1.6)
    drawn = resampled_trade_off(times, thresholds, num_runs=400)
    model = modelled_trade_off(0.1 * np.sqrt(2), thresholds, num_ranks=2)
    assert drawn.delay_steps == pytest.approx(model.delay_steps, rel=0.12)
    assert list(model.between_steps) == sorted(model.between_steps)
    assert list(drawn.between_steps) == sorted(drawn.between_steps)


def test_trade_offs_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="at least 2 ranks"):
        resampled_trade_off(np.ones((3, 1)), [1.0])
    with pytest.raises(UsageError, match="finite and above 0"):
        resampled_trade_off(np.array([[1.0, np.nan]]), [1.0])
    with pytest.raises(UsageError, match="a deviation above 0"):
        modelled_trade_off(0.0, [1.0], num_ranks=2)


def test_drawn_step_times_have_the_jitter_and_the_hiccups_that_were_asked_for() -> None:
    times = draw_step_times(20_000, 4, 0, shared=0.0)
    calm = np.log(times)[np.log(times) < 0.4]
    assert calm.std() == pytest.approx(0.06, rel=0.05)
    assert (np.log(times) > 0.4).mean() == pytest.approx(0.02, rel=0.2)
