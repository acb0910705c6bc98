"""A link's arithmetic: ring formulas, the queue, named links, topologies, and what cannot be meant."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.parallel import catalogue
from labkit.parallel.cost import fit_alpha_beta
from labkit.parallel.links import Link, LinkQueue, Topology, named_link, ring_bytes_sent, ring_steps

ASKED = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=20)  # (seconds since the last, cost)


@pytest.mark.parametrize(
    ("op", "steps", "bytes_sent"),
    [
        ("all_reduce", 6, 1200),
        ("all_gather", 3, 600),
        ("reduce_scatter", 3, 600),
        ("all_to_all", 3, 600),
        ("broadcast", 3, 800),
        ("send", 1, 800),
        ("barrier", 6, 0),
    ],
)
def test_the_ring_formulas_at_four_ranks(op: str, steps: int, bytes_sent: float) -> None:
    num_bytes = 0 if op == "barrier" else 800
    assert (ring_steps(op, 4), ring_bytes_sent(op, num_bytes, 4)) == (steps, bytes_sent)
    if op != "send":
        assert (ring_steps(op, 1), ring_bytes_sent(op, num_bytes, 1)) == (0, 0)


def test_a_link_takes_alpha_and_bytes_over_bandwidth_and_the_fit_gives_both_back() -> None:
    link = Link("own", 50e6, 1e-3)
    assert link.time_s(6, 5e6) == pytest.approx(0.106)
    sent = [ring_bytes_sent("all_reduce", size, 4) for size in (2**12, 2**18, 2**24)]
    alpha_s, beta_s = fit_alpha_beta(sent, [link.time_s(ring_steps("all_reduce", 4), num_bytes) for num_bytes in sent])
    assert (alpha_s, 1 / beta_s) == (pytest.approx(6e-3), pytest.approx(50e6))
    assert link.slowed(10) == Link("own", 5e6, 1e-2)


@given(ASKED)
def test_a_link_carries_one_transfer_after_another_and_never_idles_while_one_waits(asked: list) -> None:
    queue, now, before = LinkQueue(), 0.0, -math.inf
    for later, taken in asked:
        now += later
        start = queue.reserve(now, taken)
        assert start == max(now, before)
        before = start + taken


@given(st.lists(st.floats(0, 5), min_size=2, max_size=4), ASKED)
def test_ranks_that_agree_on_the_latest_start_keep_one_schedule(skew: list, asked: list) -> None:
    """Every rank asks for all transfers before any is agreed on: what they agree on is still a queue."""
    queues = [LinkQueue() for _ in skew]
    now, finish = 0.0, -math.inf
    for later, taken in asked:
        now += later
        start = max(queue.reserve(now + late, taken) for queue, late in zip(queues, skew, strict=True))
        assert start >= now + max(skew)
        assert start >= finish - 1e-9
        finish = start + taken
    for queue in queues:
        queue.settle(finish)
        assert queue.reserve(0.0, 1.0) == pytest.approx(finish)


def test_named_links_are_the_catalogues_in_slow_motion() -> None:
    assert named_link("nvlink") == catalogue.link("nvlink-4")
    slow, fast = named_link("ethernet-100g", 1000), catalogue.link("ethernet-100g")
    assert slow.bandwidth_bytes_per_s == pytest.approx(fast.bandwidth_bytes_per_s / 1000)
    assert slow.time_s(3, 1e6) == pytest.approx(1000 * fast.time_s(3, 1e6))


def test_a_topology_gives_the_link_inside_a_node_or_between_nodes() -> None:
    inside, between = Link("inside", 200e6), Link("between", 20e6, 1e-3)
    topology = Topology(ranks_per_node=2, inside=inside, between=between)
    assert [topology.link(ranks) for ranks in ((0, 1), (2, 3), (1, 2), (0, 2), (0, 1, 2, 3))] == [
        inside, inside, between, between, between,
    ]  # fmt: skip


@pytest.mark.parametrize("bandwidth", [0, -1.0, math.nan, math.inf, None, True])
def test_a_bandwidth_that_cannot_be(bandwidth: float) -> None:
    with pytest.raises(UsageError, match=r"bandwidth_bytes_per_s of a link must be finite and above 0; got"):
        Link("own", bandwidth)


@pytest.mark.parametrize("alpha", [-1e-9, math.nan, math.inf, "1"])
def test_a_latency_that_cannot_be(alpha: float) -> None:
    with pytest.raises(UsageError, match=r"alpha_s of a link must be finite and at least 0; got"):
        Link("own", 1e6, alpha)


def test_other_nonsense() -> None:
    with pytest.raises(UsageError, match=r"No link is named 'string'\. There are: nvlink-2, .*ethernet-100g"):
        named_link("string")
    for factor in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="slowed by a finite factor above 0; got"):
            named_link("pcie", factor)
    with pytest.raises(UsageError, match="ranks_per_node must be a whole number of at least 1; got 0"):
        Topology(ranks_per_node=0, inside=Link("a", 1.0), between=Link("b", 1.0))


def test_the_arithmetic_loads_no_torch() -> None:
    code = "import sys, labkit.parallel.links; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
