"""A plan that fits says so, and one that does not says what would."""

from __future__ import annotations

import pytest

from labkit.errors import UsageError
from labkit.parallel.fitting import RESERVE, DataParallel, check_fit, what_would_fit
from labkit.parallel.shape import SHAPES
from labkit.units import GB

PLAN = DataParallel(shape=SHAPES["llama-3-70b"], world_size=16, seq_len=4096, recompute="full")


def test_what_would_fit_fits_and_one_step_less_does_not() -> None:
    ways = what_would_fit(PLAN, 80 * GB)
    assert [way.world_size for way in ways] == [32]
    for way in ways:
        assert way.memory.total_bytes <= (1 - RESERVE) * 80 * GB
        assert check_fit(way, 80 * GB) == way.memory
        assert not way.changed(world_size=way.world_size // 2).fits(80 * GB)


def test_a_plan_that_cannot_fit_says_what_is_missing_and_what_would() -> None:
    with pytest.raises(UsageError, match=r"needs 9\d\.\d GB a device at its peak .*What would: 32 devices, stage 3"):
        check_fit(PLAN, 80 * GB)


def test_the_smallest_change_of_each_kind_comes_first() -> None:
    plain = DataParallel(shape=SHAPES["llama-3-8b"], world_size=8, seq_len=4096, stage=0, micro_batch=2)
    ways = [str(way) for way in what_would_fit(plain, 80 * GB)]
    assert ways[:2] == [
        "8 devices, stage 3, micro-batch 2, recompute none",
        "8 devices, stage 3, micro-batch 1, recompute none",
    ]
    assert "8 devices, stage 3, micro-batch 2, recompute full" in ways
    assert not plain.changed(stage=2).fits(80 * GB)


def test_where_nothing_of_the_kind_helps_it_says_so() -> None:
    with pytest.raises(UsageError, match="Sharding data parallel alone cannot: split the layers too"):
        check_fit(DataParallel(shape=SHAPES["megatron-1t"], world_size=8, seq_len=4096), 8 * GB)


@pytest.mark.parametrize("device_bytes", [0, -1, float("nan"), float("inf")])
def test_a_device_has_some_memory(device_bytes: float) -> None:
    with pytest.raises(UsageError, match="device_bytes must be finite and above 0"):
        check_fit(PLAN, device_bytes)


@pytest.mark.parametrize(
    ("change", "message"), [({"stage": 5}, "stage must be 0, 1, 2 or 3"), ({"world_size": 0}, "dp")]
)
def test_what_cannot_be_meant(change: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_fit(PLAN.changed(**change), 80 * GB)
