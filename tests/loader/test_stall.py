"""The differential finds delays on a modelled clock to the last digit; the pipeline's model is what a queue does."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from labkit.errors import DataError, UsageError
from labkit.loader.delays import DelayedPrepare, delayed_step, work
from labkit.loader.differential import stall_differential
from labkit.loader.feeding import Fed, Feed, make_loader, train_from_each, train_in_turns
from labkit.loader.gzip_format import gzip_stream, write_gzip
from labkit.loader.pipeline import InputPipeline
from labkit.loader.samples import Location, Samples
from labkit.loader.simulated_feed import simulate_feed
from labkit.loader.sizing import fed_share, fetch_s, fleet_bandwidth, price_of_useful_hour, requests_in_flight
from labkit.loader.storage import LOCAL, Storage, StoragesInTurn


class Clock:
    """A clock that moves when somebody sleeps, and at no other time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Batches:
    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def __iter__(self) -> Iterator[int]:
        for number in range(5):
            self.clock.sleep(self.seconds)
            yield number


def found(ingest_s: float, prep_s: float, fetch_s: float) -> Any:
    clock = Clock()
    step = delayed_step(lambda batch: batch, ingest_s, sleep=clock.sleep)
    cached, cold = Batches(clock, prep_s), Batches(clock, prep_s + fetch_s)
    return stall_differential(step, cached, cold, rounds=5, steps=3, clock=clock)


def test_delays_come_back_from_their_own_part() -> None:
    before, after = found(0.01, 0.002, 0.001), found(0.03, 0.022, 0.051)
    for part, put_in in {"ingest": 0.02, "prep": 0.02, "fetch": 0.05}.items():
        assert getattr(after, part).value - getattr(before, part).value == pytest.approx(put_in, rel=1e-9)
    pipeline = after.pipeline(link_s=0.02)
    assert pipeline.step_s(0) == pytest.approx(0.103)
    assert pipeline.stall_s(1) == pytest.approx(0.073 - 0.03)
    assert pipeline.bottleneck(1) == "fetch"
    assert found(0.01, 0.0, 0.0).pipeline(link_s=5.0).link_s == pytest.approx(0, abs=1e-12)


def test_a_delayed_sample() -> None:
    clock = Clock()
    late = DelayedPrepare(lambda content: torch.tensor(list(content)), 0.5, sleep=clock.sleep)
    assert late(b"ab").tolist() == [97, 98]
    assert clock.now == 0.5
    started = time.perf_counter()
    work(0.003)
    assert time.perf_counter() >= started + 0.003
    for delay_s in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="at least 0 s and finite"):
            delayed_step(print, delay_s)


@pytest.mark.parametrize("workers", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("times", [(0.02, 0.03, 0.05, 0.01), (0.05, 0.01, 0.01, 0.01), (0.01, 0.0, 0.06, 0.06)])
def test_the_model_is_what_a_queue_does(times: tuple[float, float, float, float], workers: int) -> None:
    of = InputPipeline(**dict(zip(("ingest_s", "prep_s", "fetch_s", "link_s"), times, strict=True)))
    for cores in (1, 2, 8):
        fed = simulate_feed(of, 800, num_workers=workers, prep_cores=cores)
        assert fed.step_s(warmup=400) == pytest.approx(of.step_s(workers, prep_cores=cores), rel=0.01)
    assert fed.timeline.busy_s("device") <= fed.done_s[-1] * (1 + 1e-9)
    assert all(ready < done for ready, done in zip(fed.ready_s, fed.done_s, strict=True))


def test_reading_ahead_hides_a_request_for_many_batches() -> None:
    of = InputPipeline(ingest_s=0.01, prep_s=0.001, fetch_s=0.005, link_s=0.005)
    paces = [
        simulate_feed(of, 800, num_workers=1, prefetch=ahead, batches_per_request=16).step_s(400) for ahead in (1, 2, 8)
    ]
    assert paces[0] > paces[1] > paces[2] == pytest.approx(of.ingest_s, rel=0.01)


def test_what_each_fix_would_buy() -> None:
    of = InputPipeline(ingest_s=0.01, prep_s=0.03, fetch_s=0.05, link_s=0.01)
    assert of.fixes(1) == pytest.approx(
        {
            "a device twice as fast": 1.0,
            "one worker more": 2.0,
            "a cache beside the device": 0.08 / 0.03,
            "data prepared beforehand": 0.08 / 0.05,
            "cache and prepared": 8.0,
        }
    )
    assert of.step_s(8, prep_cores=1) == 0.03  # eight workers on one core
    assert of.step_s(8, prep_cores=8) == pytest.approx(0.01)
    assert [of.bottleneck(workers, prep_cores=8) for workers in (0, 1, 8)] == ["fetch", "fetch", "ingest"]


def test_pipelines_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="ingest above 0"):
        InputPipeline(ingest_s=0, prep_s=1, fetch_s=1)
    with pytest.raises(UsageError, match="not negative"):
        InputPipeline(ingest_s=1, prep_s=-1, fetch_s=1)
    with pytest.raises(UsageError, match="a part of fetch_s"):
        InputPipeline(ingest_s=1, prep_s=1, fetch_s=1, link_s=2)
    of = InputPipeline(ingest_s=1, prep_s=1, fetch_s=1)
    with pytest.raises(UsageError, match="at least one worker"):
        of.load_s(0, 1)
    with pytest.raises(UsageError, match="at least 1, workers at least 0"):
        simulate_feed(of, 0, num_workers=1)


def test_feeding_by_a_modelled_clock() -> None:
    clock = Clock()
    with Feed(Batches(clock, 0.3), clock=clock) as feed:
        fed = feed.train(delayed_step(lambda batch: batch, 0.1, sleep=clock.sleep), 12, warmup=2)
    assert fed.stall_share == pytest.approx(0.75)
    assert fed.step("a step").value == pytest.approx(0.4)
    assert (fed.wait("a wait").value, fed.wait("a wait").low) == pytest.approx((0.3, 0.3))
    uneven = Fed(wait_s=(0.0, 0.2) * 6, compute_s=(0.1,) * 12)
    assert uneven.step("a step", windows=6).high == pytest.approx(0.2)  # each stretch holds a whole burst
    assert uneven.step("a step", windows=12).high > 0.25


def test_jobs_in_turns() -> None:
    clock, order = Clock(), []

    def job(name: str, wait_s: float) -> tuple[Batches, Any]:
        return Batches(clock, wait_s), delayed_step(lambda batch: order.append(name), 0.1, sleep=clock.sleep)

    jobs = {"slow": job("slow", 0.3), "fast": job("fast", 0.1)}
    fed = train_in_turns(jobs, rounds=2, steps=2, warmup=1, clock=clock)
    assert order == ["slow"] * 3 + ["fast"] * 6 + ["slow"] * 3
    assert [one.step_s for one in fed["slow"]] == pytest.approx([0.4, 0.4])
    assert [one.compute("").value for one in fed["fast"]] == pytest.approx([0.1, 0.1])
    with pytest.raises(UsageError, match="At least one round"):
        train_in_turns(jobs, rounds=0, steps=1)


class Workers(Dataset[int]):
    """Each sample is the process that prepared it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return os.getpid()


def test_each_feed_has_workers_of_its_own_and_leaves_none() -> None:
    seen: list[int] = []
    jobs = {"one": (make_loader(Workers(), 1, num_workers=1), lambda batch: seen.append(int(batch)))}
    for processes in (1, 2):  # the same loader twice
        train_in_turns(jobs, rounds=2, steps=3, warmup=0)
        assert (len(set(seen)), len(seen)) == (processes, 6 * processes)
        assert not [process for process in multiprocessing.active_children() if process.pid in seen]


class Named:
    """A storage whose bytes are its own name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, path: Path, offset: int = 0, num_bytes: int = -1) -> bytes:
        return f"{self.name}{offset}".encode()


class Logged:
    """This machine's files; each read writes the storage's name down."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log

    def read(self, path: Path, offset: int = 0, num_bytes: int = -1) -> bytes:
        with self.log.open("a") as log:
            log.write(self.name)
        return LOCAL.read(path, offset, num_bytes)


def test_each_storage_in_turn_gives_all_the_data() -> None:
    places = [Location(path=Path("x"), offset=index, num_bytes=1) for index in range(8)]
    data = Samples(places, lambda content: torch.tensor(list(content.ljust(3))))
    seen: list[str] = []
    fed = train_from_each(
        data,
        lambda batch: seen.append("".join(map(chr, batch[0].tolist())).strip()),
        {name: Named(name) for name in "abc"},
        batch_size=2,
        passes=2,
        rounds=2,
    )
    a_round = [f"{name}{index}" for name in "abc" for index in (0, 2, 4, 6, 0, 2, 4, 6)]
    assert seen == 3 * a_round  # the first one does not count
    assert [len(one.wait_s) for of in fed.values() for one in of] == [8] * 6


def test_a_shard_stream_asks_each_storage_for_whole_shards(tmp_path: Path) -> None:
    folders = write_gzip(tmp_path, [bytes([65 + index]) for index in range(8)], samples_per_shard=4, data_version="1")
    data = gzip_stream(folders, lambda content: torch.tensor(content[0]))
    assert (data.num_samples, data.num_reads) == (8, 2)
    log = tmp_path / "log"  # a worker reads: what it counts in its own memory is not seen here
    storages: dict[str, Storage] = {name: Logged(name, log) for name in "ab"}
    fed = train_from_each(data, print, storages, batch_size=2, passes=3, rounds=2)
    assert [len(one.wait_s) for one in fed["a"] + fed["b"]] == [12] * 4
    assert log.read_text().startswith(3 * ("a" * 6 + "b" * 6))


def test_a_wait_is_put_down_to_the_storage_of_its_batch() -> None:
    places = [Location(path=Path("x"), offset=index, num_bytes=1) for index in range(8)]
    data = Samples(places, lambda content: torch.tensor(content[0] == ord("b")))
    clock = Clock()
    slow = delayed_step(lambda batch: clock.sleep(2.0 * bool(batch.any())), 1.0, sleep=clock.sleep)
    fed = train_from_each(
        data, slow, {"a": Named("a"), "b": Named("b"), "c": Named("c")}, batch_size=2, passes=1, rounds=3, clock=clock
    )
    assert {name: {one.compute("").value for one in of} for name, of in fed.items()} == {"a": {1}, "b": {3}, "c": {1}}


@pytest.mark.parametrize(("rounds", "passes", "batch_size"), [(0, 1, 2), (1, 0, 2), (1, 1, 3), (1, 1, 0)])
def test_turns_that_cannot_be(rounds: int, passes: int, batch_size: int) -> None:
    data = Samples([Location(path=Path("x"), num_bytes=1)] * 4, prepare=lambda content: torch.tensor(0))
    with pytest.raises(UsageError, match="a size that divides them"):
        train_from_each(data, print, {"a": Named("a")}, batch_size=batch_size, passes=passes, rounds=rounds)
    for storages, reads_each in (([], 1), ([Named("a")], 0)):
        with pytest.raises(UsageError, match="At least one storage"):
            StoragesInTurn(storages, reads_each)


def test_loaders_that_cannot_be() -> None:
    data: Any = [torch.tensor(1)] * 3
    with Feed(make_loader(data, 8)) as feed, pytest.raises(DataError, match="gave no batch"):
        feed.next()
    with Feed(make_loader(data, 1)) as feed, pytest.raises(UsageError, match="At least one step"):
        feed.train(print, 0)
    for workers, prefetch in ((-1, 2), (1, 0)):
        with pytest.raises(UsageError, match="num_workers is at least 0"):
            make_loader(data, 1, num_workers=workers, prefetch=prefetch)
    with pytest.raises(UsageError, match="one of the two"):
        make_loader(data)
    with pytest.raises(UsageError, match="batch_size is at least 1"):
        make_loader(data, 0)
    with pytest.raises(UsageError, match="loaders without workers"):
        stall_differential(print, make_loader(data, 1), make_loader(data, 1, num_workers=1))
    with pytest.raises(UsageError, match="at least one step"):
        stall_differential(print, make_loader(data, 1), make_loader(data, 1), steps=0)


def test_storage_arithmetic() -> None:
    assert fleet_bandwidth(64, 1000, 112_000) == 7.168e9
    assert requests_in_flight(2000, 0.004) == 8
    assert fetch_s(4e6, 8, bytes_per_s=20e6, latency_s=0.005) == pytest.approx(0.24)
    with pytest.raises(UsageError, match="latency_s is at least 0"):
        fetch_s(1, 1, bytes_per_s=1, latency_s=-1)
    assert fed_share(8e9, 2e9) == 0.25
    assert fed_share(8e9, 2e9, cache_share=0.5) == 0.5
    assert fed_share(8e9, 20e9) == fed_share(8e9, 1, cache_share=1) == 1
    assert price_of_useful_hour(2.5, 0.5) == 5
    for bad in (0, -1, float("inf")):
        with pytest.raises(UsageError, match="must be above 0 and finite"):
            fleet_bandwidth(8, bad, 1)
        with pytest.raises(UsageError, match="must be above 0 and finite"):
            fed_share(bad, 1)
    with pytest.raises(UsageError, match="latency_s is at least 0"):
        requests_in_flight(1, -1)
    with pytest.raises(UsageError, match="between 0 and 1"):
        fed_share(1, 1, cache_share=2)
    with pytest.raises(UsageError, match="at most 1"):
        price_of_useful_hour(1, 2)
