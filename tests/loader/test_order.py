"""One order for every world size, proved: all of them, stopped at every step, through real loaders with workers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from labkit.errors import UsageError
from labkit.loader.feeding import Feed, make_loader
from labkit.loader.order import GlobalOrder, RankSampler

ORDER = GlobalOrder(num_samples=53, global_batch=12, seed=3)  # 4 steps an epoch, 5 samples left over


class Numbers(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return ORDER.num_samples

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index)


def steps_of(world_size: int, start: int, stop: int) -> list[list[int]]:
    """The samples of all ranks together in steps start to stop, by epochs as a loader asks for them."""
    ranks = [RankSampler(ORDER, rank=rank, world_size=world_size, start_step=start) for rank in range(world_size)]
    seen: list[list[int]] = []
    while len(seen) < stop - start:
        assert len({len(rank) for rank in ranks}) == 1
        seen += [[one for part in parts for one in part] for parts in zip(*ranks, strict=True)]
    return seen[: stop - start]


def test_every_world_size_and_every_stop_give_the_same_steps() -> None:
    alone = [ORDER.step(step).tolist() for step in range(12)]
    assert steps_of(1, 0, 12) == alone
    for before, after, stop in product((1, 2, 3, 4, 6, 12), (1, 2, 3, 4, 6, 12), range(12)):
        assert steps_of(before, 0, stop) + steps_of(after, stop, 12) == alone


def test_an_epoch_sees_no_sample_twice_and_the_next_is_another() -> None:
    epochs = [ORDER.epoch(epoch) for epoch in range(3)]
    assert all(len(set(epoch.tolist())) == len(epoch) == 48 for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], GlobalOrder(num_samples=53, global_batch=12, seed=4).epoch(0))
    left = {number: set(range(53)) - set(epoch.tolist()) for number, epoch in enumerate(epochs)}
    assert left[0] != left[1]  # what an epoch leaves out is not always the same


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_comes_back_in_the_middle_of_an_epoch(num_workers: int) -> None:
    def loader() -> Any:
        sampler = RankSampler(ORDER, rank=1, world_size=2)
        return make_loader(Numbers(), sampler=sampler, num_workers=num_workers, stateful=True)

    with Feed(loader()) as whole:
        uninterrupted = [whole.next().tolist() for _ in range(8)]
    stopped = loader()
    batches = iter(stopped)
    seen = [next(batches).tolist() for _ in range(3)]
    state = stopped.state_dict()  # what was read ahead is not done
    del batches
    resumed = loader()
    resumed.load_state_dict(state)
    with Feed(resumed) as rest:
        seen += [rest.next().tolist() for _ in range(5)]
    assert seen == uninterrupted
    assert uninterrupted == [ORDER.step(step)[6:].tolist() for step in range(8)]


def test_other_ranks_after_a_stop_through_loaders_with_workers() -> None:
    parts: list[list[torch.Tensor]] = []
    for rank in range(3):
        sampler = RankSampler(ORDER, rank=rank, world_size=3, start_step=6)
        with Feed(make_loader(Numbers(), sampler=sampler, num_workers=rank)) as feed:
            parts.append([feed.next() for _ in range(5)])
    together = [torch.cat(step).tolist() for step in zip(*parts, strict=True)]
    assert together == [ORDER.step(step).tolist() for step in range(6, 11)]


def test_orders_that_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"must divide global_batch; got 5 and 12\. Use 1, 2, 3, 4, 6 or 12"):
        RankSampler(ORDER, world_size=5)
    with pytest.raises(UsageError, match="rank lies in 0 to world_size - 1"):
        RankSampler(ORDER, rank=2, world_size=2)
    with pytest.raises(UsageError, match="counted from 0"):
        RankSampler(ORDER, start_step=-1)
    with pytest.raises(UsageError, match="counted from 0"):
        ORDER.step(-1)
    for batch in (0, 54):
        with pytest.raises(UsageError, match="at most all of them"):
            GlobalOrder(num_samples=53, global_batch=batch)
