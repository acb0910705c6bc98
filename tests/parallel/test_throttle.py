"""A throttled group: every dist call gives what gloo gives, in the time of the link; what cannot be is refused."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist

from labkit.launch import run
from labkit.parallel import delayed, throttle
from labkit.parallel.links import ring_bytes_sent, ring_steps
from labkit.parallel.traffic import count_traffic

LINK = throttle.Link("own", 20e6, 1e-3)
RANKS = 3


def every_call(group: dist.ProcessGroup) -> dict[str, Any]:
    """Results by call. All ranks call; each rank's input is its own."""
    n, rank = group.size(), group.rank()
    own = torch.arange(8.0) + 100 * rank  # (8,)
    whole = torch.arange(8.0 * n) * (rank + 1)  # (8 · n,)
    out: dict[str, Any] = {}

    def new(size: int) -> torch.Tensor:
        return torch.full((size,), -1.0)

    for op in (dist.ReduceOp.SUM, dist.ReduceOp.MAX):
        dist.all_reduce(data := own.clone(), op, group=group)
        out[f"all_reduce {op}"] = data
    work = dist.all_reduce(data := own.clone(), group=group, async_op=True)
    out["future of all_reduce"] = work.get_future().wait()[0]
    dist.all_gather(parts := [new(8) for _ in range(n)], own, group=group)
    dist.all_gather_into_tensor(single := new(8 * n), own, group=group)
    dist.reduce_scatter(scattered := new(8), list(whole.chunk(n)), group=group)
    dist.reduce_scatter_tensor(scattered_single := new(8), whole, group=group)
    out |= {"all_gather": parts, "all_gather_into_tensor": single}
    out |= {"reduce_scatter": scattered, "reduce_scatter_tensor": scattered_single}
    dist.broadcast(sent := own.clone(), group=group, group_src=1)
    dist.reduce(reduced := own.clone(), group=group, group_dst=0)
    out |= {"broadcast": sent, "reduce": reduced if rank == 0 else None}
    dist.gather(own, gathered := [new(8) for _ in range(n)] if rank == 0 else None, group=group, group_dst=0)
    dist.scatter(piece := new(8), list(whole.chunk(n)) if rank == 0 else None, group=group, group_src=0)
    out |= {"gather": gathered, "scatter": piece}
    dist.all_to_all_single(mixed := new(8 * n), whole, group=group)
    dist.all_to_all(exchanged := [new(8) for _ in range(n)], list(whole.chunk(n)), group=group)
    out |= {"all_to_all_single": mixed, "all_to_all": exchanged}
    dist.all_gather_object(names := [None] * n, {"rank": rank}, group=group)
    out |= {"all_gather_object": names} | _point_to_point(group, own)
    with dist.distributed_c10d._coalescing_manager(group, async_ops=True) as together:
        dist.all_reduce(first := own.clone(), group=group)
        dist.all_reduce(second := 2 * own, group=group)
    together.wait()
    out["coalesced"] = [first, second]
    dist.barrier(group=group)
    return out


def _point_to_point(group: dist.ProcessGroup, own: torch.Tensor) -> dict[str, Any]:
    n, rank = group.size(), group.rank()
    right, left = (rank + 1) % n, (rank - 1) % n
    came, second = torch.empty(8), torch.empty(8)
    both = [
        dist.P2POp(dist.irecv, came, group=group, group_peer=left),
        dist.P2POp(dist.isend, own, group=group, group_peer=right),
    ]
    for work in dist.batch_isend_irecv(both):
        work.wait()
    # The second message is received first: tags tell them apart, and neither may hold up the other.
    late = dist.irecv(first := torch.empty(8), group=group, group_src=left, tag=1)
    sending = dist.isend(own + 2, group=group, group_dst=right, tag=2)
    dist.recv(second, group=group, group_src=left, tag=2)
    sending.wait()
    sending = dist.isend(own + 1, group=group, group_dst=right, tag=1)
    late.wait()
    sending.wait()
    return {"batch_isend_irecv": came, "tagged": [first, second]}


def _record() -> dict[str, Any]:
    """On each rank: all calls over gloo and over a throttled group, and how the transfers went."""
    sleepers, really_sleep = set(), time.sleep

    def sleep(seconds: float) -> None:
        sleepers.add(threading.current_thread())
        really_sleep(seconds)

    delayed.time.sleep = sleep  # type: ignore[attr-defined]
    with count_traffic() as over_gloo:
        gloo = every_call(dist.group.WORLD)
    with throttle.throttled(LINK) as group:
        with count_traffic() as over_link:
            slow = every_call(group)
        # Rank 0 asks, and computes on: the others come only when it has said so. A call that waited would never end.
        first = dist.all_reduce(torch.ones(3), group=group, async_op=True) if group.rank() == 0 else None
        dist.barrier()
        (first or dist.all_reduce(torch.ones(3), group=group, async_op=True)).wait()
        before = len(group.transfers)
        dist.barrier()
        for _ in range(3):  # asked for at once: they queue up
            last = dist.all_reduce(torch.ones(50_000), group=group, async_op=True)
        last.wait()
        alone = {"backend": dist.get_backend(group), "size": group.size(), "rank": group.rank()}
    with throttle.throttled(LINK, ranks=(2, 0)) as pair:
        if dist.get_rank() != 1:
            dist.all_reduce(of_two := torch.ones(3), group=pair)
            alone["pair"] = pair.rank(), of_two.tolist()
    return {
        "gloo": gloo,
        "slow": slow,
        "calls": (over_gloo.calls, over_link.calls),
        "transfers": group.transfers,
        "queued": group.transfers[before:],
        "sleepers": {thread is threading.main_thread() for thread in sleepers},
        "alone": alone,
    }


@pytest.fixture(scope="module")
def records() -> tuple[dict[str, Any], ...]:
    return run(_record, ranks=RANKS, backend="gloo").values


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def test_every_call_gives_what_gloo_gives(records: Any) -> None:
    for record in records:
        assert record["gloo"].keys() == record["slow"].keys()
        assert [op for op in record["gloo"] if not _equal(record["gloo"][op], record["slow"][op])] == []
    assert records[1]["slow"]["batch_isend_irecv"].tolist() == list(range(8))
    assert records[0]["slow"]["future of all_reduce"].tolist() == [3.0 * i + 300 for i in range(8)]


def test_who_counts_traffic_counts_the_same_over_it(records: Any) -> None:
    for record in records:
        over_gloo, over_link = record["calls"]
        assert over_link == over_gloo
        assert len(over_gloo) > 20


def test_a_transfer_takes_its_ring_formula_and_no_less(records: Any) -> None:
    for record in records:
        for each in record["transfers"]:
            steps, sent = ring_steps(each.op, RANKS), ring_bytes_sent(each.op, each.num_bytes, RANKS)
            assert each.finish_s - each.start_s == pytest.approx(LINK.time_s(steps, sent), abs=1e-9), each
            assert each.late_s >= 0


def test_ranks_agree_when_a_collective_begins_which_is_when_the_last_has_come(records: Any) -> None:
    rings = [[t for t in record["transfers"] if t.op not in ("send", "recv")] for record in records]
    assert len({len(each) for each in rings}) == 1
    for together in zip(*rings, strict=True):
        assert len({(t.op, t.start_s, t.finish_s) for t in together}) == 1
        assert together[0].start_s >= max(t.asked_s for t in together)


def test_transfers_queue_up_on_a_link(records: Any) -> None:
    for record in records:
        sent = sorted((t for t in record["transfers"] if t.op != "recv"), key=lambda t: t.start_s)
        assert all(later.start_s >= first.finish_s - 1e-9 for first, later in itertools.pairwise(sent))
    free_s = 0.0
    for together in zip(*(record["queued"] for record in records), strict=True):
        assert together[0].start_s == pytest.approx(max(free_s, *(t.asked_s for t in together)), abs=1e-9)
        free_s = together[0].finish_s
    assert len(records[0]["queued"]) == 3


def test_a_receiver_has_it_when_the_sender_has_sent_it(records: Any) -> None:
    for rank, record in enumerate(records):
        left = records[(rank - 1) % RANKS]
        sent = sorted(t.finish_s for t in left["transfers"] if t.op == "send")
        assert sorted(t.finish_s for t in record["transfers"] if t.op == "recv") == sent
        assert len(sent) == 3


def test_only_the_lanes_sleep(records: Any) -> None:
    assert all(record["sleepers"] == {False} for record in records)


def test_a_group_is_of_all_ranks_or_of_some(records: Any) -> None:
    all_three = [{"backend": "throttled", "size": RANKS, "rank": rank} for rank in range(RANKS)]
    pair = [{"pair": (0, [2.0] * 3)}, {}, {"pair": (1, [2.0] * 3)}]
    assert [record["alone"] for record in records] == [one | two for one, two in zip(all_three, pair, strict=True)]
