"""Burst, damage on purpose, and jobs that fail at random against the closed form of their goodput."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.checkpoint import Store, damage, optimal_interval
from labkit.checkpoint.burst import BYTES_PER_PARAMETER, Burst
from labkit.checkpoint.damages import flip_bit, truncate
from labkit.checkpoint.failures import simulated_goodput
from labkit.checkpoint.trials import measure_writes
from labkit.errors import UsageError
from labkit.spot import expected_goodput


def test_a_burst_is_its_bytes_over_its_window() -> None:
    need = Burst(state_bytes=BYTES_PER_PARAMETER * 70e9, window_s=10.0, interval_s=990.0, writers=1000)
    assert need.burst_bytes_per_s == pytest.approx(98e9)
    assert need.writer_bytes_per_s == pytest.approx(98e6)
    assert need.sustained_bytes_per_s == pytest.approx(0.98e9)
    assert need.peak_to_mean == pytest.approx(100.0)


@pytest.mark.parametrize("wrong", [{"window_s": 0.0}, {"state_bytes": -1.0}, {"interval_s": float("inf")}])
def test_rates_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be finite and above 0"):
        Burst(**({"state_bytes": 1.0, "window_s": 1.0, "interval_s": 1.0} | wrong))


def test_simulated_jobs_have_the_closed_forms_goodput() -> None:
    for factor in (0.3, 1.0, 3.0):
        interval = factor * optimal_interval(60.0, 10_000.0)
        runs = [simulated_goodput(interval, 60.0, 300.0, 10_000.0, work_s=3e6, seed=seed) for seed in range(8)]
        assert sum(runs) / 8 == pytest.approx(expected_goodput(interval, 60.0, 300.0, 10_000.0), rel=0.01)


def test_a_simulation_without_time_is_refused() -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        simulated_goodput(0.0, 60.0, 300.0, 10_000.0, work_s=1.0, seed=0)


def test_every_damage_differs_from_what_was_committed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", model="m")
    source = store.publish(1, lambda staged: [(staged / n).write_bytes(bytes(300)) for n in ("a", "b")])
    for seed in range(10):
        assert damage(flip_bit(source, tmp_path / f"flipped-{seed}", seed=seed).folder)
        assert damage(truncate(source, tmp_path / f"cut-{seed}", seed=seed).folder)
    assert damage(source.folder) is None


def test_writes_need_a_model() -> None:
    with pytest.raises(UsageError, match="got 0, 1, 5 and 4"):
        measure_writes([])
