"""The fabric's measurement and its fit: points of known α and β give them back; on ranks every collective is timed."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import UsageError
from labkit.launch import run
from labkit.measure import Measured
from labkit.parallel import fabric
from labkit.parallel.links import Link, ring_bytes_sent
from labkit.units import KIB

SIZES = tuple(4**power * KIB for power in range(2, 9))


def points(op: str = "all_reduce", ranks: int = 4, factor: float = 1.0) -> list[fabric.FabricPoint]:
    """Exactly 1 ms + bytes ÷ 100 MB/s, but every second size between the ends takes ``factor`` times that."""
    found = []
    for index, size in enumerate(SIZES):
        value = (1e-3 + ring_bytes_sent(op, size, ranks) / 100e6) * (factor if index in (1, 3, 5) else 1)
        time = Measured(name="", value=value, unit="s", low=value, high=value, n=7)
        found.append(fabric.FabricPoint(op=op, ranks=ranks, size_bytes=size, time=time))
    return found


def test_a_fit_gives_alpha_and_bandwidth_back_and_is_scored_on_sizes_that_it_has_not_seen() -> None:
    (fit,) = fabric.fit_fabric(points(factor=1.25))
    assert (fit.alpha_s, fit.bandwidth_bytes_per_s) == (pytest.approx(1e-3), pytest.approx(100e6))
    assert [p.size_bytes for p in fit.held_out] == [SIZES[1], SIZES[3], SIZES[5]]
    assert len(fit.fitted) == 4
    assert fit.error == pytest.approx(0.2)  # 1/1.25 − 1
    (fit,) = fabric.fit_fabric(points(factor=1.25), held_out_bytes=[SIZES[-1]])
    assert [p.size_bytes for p in fit.held_out] == [SIZES[-1]]


def test_each_collective_and_number_of_ranks_is_fitted_by_itself() -> None:
    fits = fabric.fit_fabric([*points("send", 2), *points(), *points(ranks=2)])
    assert [(fit.op, fit.ranks) for fit in fits] == [("send", 2), ("all_reduce", 4), ("all_reduce", 2)]
    assert points()[0].bytes_sent == 1.5 * SIZES[0]
    assert points()[-1].bus_bandwidth.value == pytest.approx(100e6, rel=0.05)


def test_every_collective_is_measured_on_ranks_and_no_sooner_than_its_link_allows() -> None:
    sizes = [12 * KIB, 48 * KIB, 192 * KIB]
    told: list[float] = []
    over = Link("own", 20e6, 1e-3)
    found = fabric.measure_fabric(
        3, fabric.COLLECTIVES, sizes, over=over, repeats=3, warmup=1,
        on_progress=lambda share, _state: told.append(share),
    )  # fmt: skip
    assert [(p.op, p.size_bytes) for p in found] == [(op, size) for op in fabric.COLLECTIVES for size in sizes]
    assert {(p.ranks, p.time.n, p.time.warmup, p.time.unit) for p in found} == {(3, 3, 1, "s")}
    assert told[-1] == 1.0
    assert all(p.time.low >= p.bytes_sent / over.bandwidth_bytes_per_s + over.alpha_s for p in found)


def test_each_call_does_what_its_name_says() -> None:
    def call_all() -> dict[str, int]:
        from labkit.parallel.traffic import count_traffic

        seen = {}
        for op in fabric.COLLECTIVES:
            with count_traffic() as traffic:
                fabric._call(op, 12, "cpu", None)()
            ((name, num_bytes),) = ((call.op, call.num_bytes) for call in traffic.calls)
            seen[name] = num_bytes
        return seen

    sender, receiver = run(call_all, ranks=2, backend="gloo").values
    assert sender == dict.fromkeys(fabric.COLLECTIVES, 48)
    assert receiver == dict.fromkeys((*fabric.COLLECTIVES[:-1], "recv"), 48)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ranks": 1}, "A fabric joins at least 2 ranks; got 1"),
        ({"collectives": ["gossip"]}, r"collectives are all_reduce, .*, send; got 'gossip'"),
        (
            {"ranks": 3, "sizes_bytes": [4096]},
            r"sizes that are multiples of 12 bytes; got \['all_reduce'\] at \[4096\]",
        ),
        ({"sizes_bytes": [0]}, "sizes that are multiples of 8 bytes"),
        ({"sizes_bytes": []}, "sizes that are multiples of 8 bytes"),
        ({"repeats": 0}, "repeats must be at least 1 and warmup at least 0; got 0 and 2"),
    ],
)
def test_what_cannot_be_measured(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fabric.measure_fabric(**wrong)


def test_a_fit_needs_sizes_to_fit_and_one_to_be_scored_on() -> None:
    for few, held_out in ((points()[:2], None), (points(), [1]), (points()[:3], [SIZES[0], SIZES[1]])):
        with pytest.raises(UsageError, match=r"needs two sizes, and one more to be scored on; all_reduce has \["):
            fabric.fit_fabric(few, held_out)
