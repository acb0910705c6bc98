"""A training loop with a stopwatch at its one interesting place: where it waits for the next batch."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from labkit.errors import DataError, UsageError
from labkit.hardware import machine
from labkit.loader.samples import Samples
from labkit.loader.storage import Storage, StoragesInTurn
from labkit.loader.stream import ShardStream
from labkit.measure import Measured, OnProgress

__all__ = ["Fed", "Feed", "make_loader", "train_from_each", "train_in_turns"]

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """Steps that were fed: seconds that each waited for its batch, and seconds that each then computed."""

    wait_s: tuple[float, ...]
    compute_s: tuple[float, ...]

    @property
    def seconds(self) -> float:
        return sum(self.wait_s) + sum(self.compute_s)

    @property
    def step_s(self) -> float:
        """Seconds of a step, the mean."""
        return self.seconds / len(self.wait_s)

    @property
    def stall_share(self) -> float:
        """The part of the time in which the device waited for data."""
        return sum(self.wait_s) / self.seconds

    def step(self, name: str, *, windows: int = 6) -> Measured:
        """Seconds of a step: the mean, with an interval from the means of ``windows`` stretches of the run."""
        return self._mean(name, windows, np.add(self.wait_s, self.compute_s))

    def compute(self, name: str, *, windows: int = 6) -> Measured:
        """Seconds that a step computes, likewise: what it would take if its batch were there."""
        return self._mean(name, windows, np.array(self.compute_s))

    def wait(self, name: str, *, windows: int = 6) -> Measured:
        """Seconds that a step waits, likewise."""
        return self._mean(name, windows, np.array(self.wait_s))

    def _mean(self, name: str, windows: int, seconds: NDArray[np.float64]) -> Measured:
        # Workers deliver in bursts, so that single steps are no samples of anything, and their median is no pace.
        # Batch means (Law, Simulation Modeling and Analysis): long stretches hardly depend on one another.
        means = np.array([stretch.mean() for stretch in np.array_split(seconds, min(windows, len(seconds)))])
        mean, half = float(seconds.mean()), 0.0
        if len(means) > 1:
            half = float(scipy.stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means)))
        low, high = max(0.0, mean - half), mean + half
        return Measured(name=name, value=mean, unit="s", low=low, high=high, n=len(means), machine=machine().id)


class Feed:
    """Batches without an end, epoch after epoch, as a context manager that ends a loader's workers.

    ``with Feed(loader) as feed: feed.train(step, num_steps)``; DataError where the loader gives no batch.
    """

    def __init__(self, loader: Iterable[Any], *, clock: Clock = time.perf_counter) -> None:
        self.loader, self._clock = loader, clock
        self._batches = self._endless()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._batches.close()  # the loader's iterator goes with it, and its workers
        iterator: Any = getattr(self.loader, "_iterator", None)  # persistent workers outlive a pass over the data
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
            cast(Any, self.loader)._iterator = None  # or the next pass would ask workers that have gone

    def _endless(self) -> Generator[Any, None, None]:
        while True:
            count = 0
            for batch in self.loader:
                count += 1
                yield batch
            if not count:
                raise DataError("The loader gave no batch: the data holds less than one. Use smaller batches.")

    def next(self) -> Any:
        return next(self._batches)

    def train(self, step: Callable[[Any], object], num_steps: int, *, warmup: int = 0) -> Fed:
        """``warmup`` steps that do not count (they empty what was read ahead), then ``num_steps`` that do."""
        if num_steps < 1 or warmup < 0:
            raise UsageError(f"At least one step and no negative warm-up; got {num_steps} and {warmup}.")
        waits, computes = [], []
        for _ in range(warmup + num_steps):
            asked = self._clock()
            batch = self.next()
            got = self._clock()
            step(batch)
            waits.append(got - asked)
            computes.append(self._clock() - got)
        return Fed(wait_s=tuple(waits[warmup:]), compute_s=tuple(computes[warmup:]))


def train_in_turns(
    jobs: Mapping[str, tuple[Iterable[Any], Callable[[Any], object]]],
    *,
    rounds: int,
    steps: int,
    warmup: int = 5,
    clock: Clock = time.perf_counter,
    on_progress: OnProgress | None = None,
) -> dict[str, tuple[Fed, ...]]:
    """Jobs (a loader and a step each) in turns, so that a machine that drifts treats all alike: what each round gave.

    A loader reads ahead while others have their turn, so that the first ``warmup`` steps of a turn do not count: more
    than its workers have ready together (workers · prefetch).
    """
    if rounds < 1:
        raise UsageError(f"At least one round; got {rounds}.")
    seen: dict[str, list[Fed]] = {name: [] for name in jobs}
    with ExitStack() as stack:
        feeds = {name: stack.enter_context(Feed(loader, clock=clock)) for name, (loader, _) in jobs.items()}
        for number in range(rounds):
            for name in list(jobs)[:: 1 if number % 2 == 0 else -1]:
                if on_progress:
                    on_progress(number / rounds, f"round {number + 1} of {rounds}: {name}")
                seen[name].append(feeds[name].train(jobs[name][1], steps, warmup=warmup))
    return {name: tuple(of_job) for name, of_job in seen.items()}


def train_from_each(
    dataset: Samples | ShardStream,
    step: Callable[[Any], object],
    storages: Mapping[str, Storage],
    *,
    batch_size: int,
    passes: int,
    rounds: int,
    clock: Clock = time.perf_counter,
    on_progress: OnProgress | None = None,
) -> dict[str, tuple[Fed, ...]]:
    """One worker fetches so many passes over the data from each storage in turn: what each turn gave, by storage.

    What slows the machine, or this worker, for longer than a round slows all of them alike. The first round does not
    count. A turn should take a second or more: a worker's interpreter hands a batch over when it has a moment, as late
    as the next batch is ready, and what a turn leaves waiting is put down to the next storage.

    UsageError: no pass, no round, or data that batches of this size do not divide.
    """
    if passes < 1 or rounds < 1 or batch_size < 1 or dataset.num_samples % batch_size:
        raise UsageError(
            f"At least one pass and one round, and samples that are whole batches; got {passes} passes, {rounds} "
            f"rounds and {dataset.num_samples} samples in batches of {batch_size}. Take a size that divides them."
        )
    reads, steps = passes * dataset.num_reads, passes * dataset.num_samples // batch_size
    in_turn = dataset.on(StoragesInTurn(list(storages.values()), reads))
    # One pass more than is used: a worker reads ahead.
    loader = make_loader(in_turn.repeated((rounds + 1) * len(storages) * passes + 1), batch_size, num_workers=1)
    seen: dict[str, list[Fed]] = {name: [] for name in storages}
    with Feed(loader, clock=clock) as feed:
        for number in range(rounds + 1):
            for turn, name in enumerate(storages):
                if on_progress:
                    done = (number + turn / len(storages)) / (rounds + 1)
                    on_progress(done, f"round {number} of {rounds}: {name}" if number else "warm-up")
                fed = feed.train(step, steps)
                if number:
                    seen[name].append(fed)
    return {name: tuple(of_storage) for name, of_storage in seen.items()}


def make_loader(
    dataset: Dataset[Any], batch_size: int | None = None, *, sampler: Sampler[list[int]] | None = None,
    num_workers: int = 0, prefetch: int = 2, stateful: bool = False,
) -> Any:  # fmt: skip
    """torch's DataLoader, or with ``stateful`` torchdata's, over any of the lab's datasets.

    sampler: lists of indices (a `RankSampler`), in place of batch_size and of the dataset's own order. prefetch: the
    batches that each worker has ready at most.
    """
    if num_workers < 0 or prefetch < 1:
        raise UsageError(f"num_workers is at least 0 and prefetch at least 1; got {num_workers} and {prefetch}.")
    if (batch_size is None) == (sampler is None):
        raise UsageError("A loader needs a batch_size or a sampler, one of the two. A RankSampler brings its own size.")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size is at least 1; got {batch_size}.")
    kind: Any = DataLoader
    if stateful:
        from torchdata.stateful_dataloader import StatefulDataLoader as kind  # type: ignore[no-redef]
    options: dict[str, Any] = {"batch_sampler": sampler} if sampler else {"batch_size": batch_size, "drop_last": True}
    if num_workers:
        options |= {"prefetch_factor": prefetch, "persistent_workers": True}
    with warnings.catch_warnings():  # torchdata 0.11 calls what torch 2.13 calls deprecated
        warnings.filterwarnings("ignore", message="'set_vital' is deprecated")
        return kind(dataset, num_workers=num_workers, **options)
