"""Traces: in order or refused, read as published, generated as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.errors import DataError, UsageError
from labkit.spot import Availability, generate_availability, job_windows, read_node_events, read_samples

BAMBOO = Path(__file__).resolve().parents[3] / "shared/reference/bamboo_spot"


def test_a_step_is_up_only_where_all_of_it_is() -> None:
    trace = Availability(up=((1.0, 3.5), (5, 10)), span_s=10)
    assert trace.sampled(1.0).tolist() == [False, True, True, False, False, True, True, True, True, True]
    assert (trace.share, trace.mean_up_s) == (0.75, 3.75)
    assert trace.is_up(1.0)
    assert not trace.is_up(3.5)
    assert (trace.up_until(2.0), trace.up_until(4.0)) == (3.5, None)


@pytest.mark.parametrize("up", [((5, 6), (1, 2)), ((1, 3), (2, 4)), ((3, 3),), ((1, 11),), ((float("nan"), 2),)])
def test_a_trace_out_of_order(up: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(UsageError, match="must be in order"):
        Availability(up=up, span_s=10)


def test_the_generator_keeps_its_means_and_its_seed() -> None:
    trace = generate_availability(100, 50, 500_000, seed=3)
    assert trace.mean_up_s == pytest.approx(100, rel=0.06)
    assert trace.share == pytest.approx(2 / 3, rel=0.04)
    assert trace == generate_availability(100, 50, 500_000, seed=3)
    assert trace != generate_availability(100, 50, 500_000, seed=4)


@pytest.mark.parametrize("rates", [(0, 50, 10), (100, -1, 10), (100, 50, float("inf"))])
def test_rates_that_cannot_be_meant(rates: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="must be finite and above 0; got"):
        generate_availability(*rates, seed=0)


def test_windows_are_cut_out_of_the_trace() -> None:
    steps = np.arange(100) % 7 < 3
    windows = job_windows(steps, 5, 20, seed=0)
    assert windows.shape == (5, 20)
    assert all(any((steps[i : i + 20] == window).all() for i in range(81)) for window in windows)
    with pytest.raises(UsageError, match="does not fit into a trace of 100"):
        job_windows(steps, 5, 101, seed=0)


def test_node_events(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("0,add,a\n1000,add,b\n3000,remove,a\n4000,add,c\n6000,remove,b\n7000,remove,c\n")
    assert read_node_events(path, nodes=1).up == ((0, 7),)
    assert read_node_events(path, nodes=2).up == ((1, 3), (4, 6))
    assert read_node_events(path, nodes=3).up == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2000,add,a\n1000,add,b\n", "row 2: 1 s is before 2 s"),
        ("0,add,a\n5,add,a\n", "which is there"),
        ("0,remove,a\n", "which is not there"),
        ("0,add\n", "want milliseconds, add or remove, node"),
        ("nan,add,a\n", "want milliseconds"),
        ("", "holds no events"),
    ],
)
def test_node_events_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_node_events(tmp_path / "t.csv", nodes=1)


def test_samples(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    path.write_text('{"metadata": {"gap_seconds": 600}, "data": [0, 0, 1, 0]}')
    trace = read_samples(path)
    assert (trace.up, trace.span_s) == (((0, 1200), (1800, 2400)), 2400)
    for text in (
        "[]",
        '{"metadata": {"gap_seconds": 0}, "data": [0]}',
        '{"metadata": {"gap_seconds": 1}, "data": [2]}',
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=r"0\.json"):
            read_samples(path)
    with pytest.raises(DataError, match="missing"):
        read_samples(tmp_path / "missing.json")


@pytest.mark.skipif(not BAMBOO.exists(), reason="the public traces are not beside this checkout")
def test_the_published_traces() -> None:
    trace = read_node_events(BAMBOO / "p3-trace.csv", nodes=24)
    assert trace.span_s == 40920
    assert trace.share == pytest.approx(0.523, abs=0.001)
    assert len(trace.up) == 11
