"""All-reduce by hand on real ranks: sums, bytes and steps, sizes that do not divide, ranks that do not agree."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributed as dist

from labkit import launch
from labkit.errors import RankError
from labkit.parallel import collectives
from labkit.parallel.cost import ring_all_reduce_bytes
from labkit.parallel.traffic import Traffic, count_traffic

SHAPES = [(24,), (2, 12), (25,), (3, 5, 7), (1,), (0,), (1 << 21,)]  # of the last, chunks are several segments


def reduce_in_groups() -> dict[int, list[dict[str, Any]]]:
    """By the size of a group of the first ranks."""
    groups = {size: dist.new_group(range(size)) for size in (1, 2, 3, 4)}
    return {size: reduce_all(group) for size, group in groups.items() if dist.get_rank() < size}


def reduce_all(group: dist.ProcessGroup) -> list[dict[str, Any]]:
    out = []
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    for shape in SHAPES:
        generator = torch.Generator().manual_seed(rank)
        mine = torch.randn(shape, generator=generator, dtype=torch.float64)
        ours, theirs, tree = (mine.clone() for _ in range(3))
        dist.all_reduce(theirs, group=group)
        with count_traffic() as ring_traffic:
            collectives.ring_all_reduce(ours, group)
        with count_traffic() as tree_traffic:
            collectives.tree_all_reduce(tree, group)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(tree, theirs, rtol=1e-12, atol=1e-12)
        given = mine.clone()
        part = collectives.ring_reduce_scatter(given, group)
        whole = collectives.ring_all_gather(part, group)
        assert part.shape == (math.ceil(mine.numel() / size),)
        torch.testing.assert_close(whole[: mine.numel()].view(shape), theirs, rtol=1e-12, atol=1e-12)
        assert not whole[mine.numel() :].any()
        assert torch.equal(given, mine)
        out.append({"numel": mine.numel(), "ring": sent(ring_traffic), "tree": sent(tree_traffic)})
    backwards = torch.arange(12.0).view(3, 4).t()  # not contiguous
    collectives.ring_all_reduce(backwards, group)
    assert torch.equal(backwards, size * torch.arange(12.0).view(3, 4).t())
    trained = torch.nn.Parameter(torch.ones(size))
    collectives.ring_all_reduce(trained, group)
    assert trained.tolist() == [size] * size
    return out


def sent(traffic: Traffic) -> tuple[int, int]:
    return traffic.payload_bytes("send"), traffic.num_calls("send")


def test_ring_and_tree_sum_as_gloo_does_and_send_what_the_formulas_say() -> None:
    ranks = launch.run(reduce_in_groups, ranks=4, backend="gloo").values
    for size in (1, 2, 3, 4):
        check_bytes(size, [by_size[size] for by_size in ranks[:size]])


def check_bytes(size: int, ranks: list[list[dict[str, Any]]]) -> None:
    for case in range(len(SHAPES)):
        numel = ranks[0][case]["numel"]
        chunk = math.ceil(numel / size)
        for rank in ranks:
            sent_bytes, num_sends = rank[case]["ring"]
            assert sent_bytes == 2 * (size - 1) * chunk * 8
            if numel % size == 0:
                assert sent_bytes == ring_all_reduce_bytes(numel * 8, size)
            if 0 < numel < 1000:
                assert num_sends == 2 * (size - 1)  # one chunk a step
        children = [sum(rank % (2 * s) == 0 and rank + s < size for s in (1, 2)) for rank in range(size)]
        for rank, value in enumerate(ranks):  # once up, except for rank 0; once down for each child
            assert value[case]["tree"][0] == ((rank > 0) + children[rank]) * numel * 8
        assert sum(value[case]["tree"][0] for value in ranks) == 2 * (size - 1) * numel * 8


@pytest.mark.parametrize(
    ("odd_one", "message"),
    [
        (lambda: torch.ones(5), r"same shape; rank 0 gave \(4,\) and rank 1 \(5,\)"),
        (
            lambda: torch.ones(4, dtype=torch.float64),
            "same dtype; rank 0 gave 'torch.float32' and rank 1 'torch.float6",
        ),
    ],
)
def test_ranks_that_differ_are_told_and_do_not_hang(odd_one: Any, message: str) -> None:
    def reduce() -> None:
        collectives.ring_all_reduce(odd_one() if dist.get_rank() == 1 else torch.ones(4))

    with pytest.raises(RankError, match=message):
        launch.run(reduce, ranks=2, backend="gloo", deadline_s=30)
