"""A throttled storage sends the very bytes, shares its link by the formula, and says what it cannot do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from labkit.errors import DataError, UsageError
from labkit.loader.feeding import Feed, make_loader
from labkit.loader.prepare import ReadTokens
from labkit.loader.samples import Location, Samples
from labkit.loader.storage import LOCAL, ThrottledStorage
from labkit.loader.storage_server import SharedLink

CONTENT = bytes(range(256)) * 800  # 204,800 bytes: several portions


def test_the_same_bytes_as_local_files(tmp_path: Path) -> None:
    path = tmp_path / "ünamed file"
    path.write_bytes(CONTENT)
    (tmp_path / "empty").touch()
    with ThrottledStorage(100e6, 0.0005) as storage:
        for where in (LOCAL, storage):
            assert where.read(path) == CONTENT
            assert where.read(path, 1000, 70_000) == CONTENT[1000:71_000]
            assert where.read(path, 204_000) == CONTENT[204_000:]
            assert where.read(path, 5, 0) == b""
            assert where.read(tmp_path / "empty") == b""
            with pytest.raises(DataError, match="ends early: 1,000 bytes were wanted, 800 are there"):
                where.read(path, 204_000, 1000)
            with pytest.raises(DataError, match=r"cannot be read \(No such file"):
                where.read(tmp_path / "missing")
        # many readers at once: threads, and workers that inherit a connection they must not use
        found: list[bytes] = []
        readers = [threading.Thread(target=lambda: found.append(storage.read(path))) for _ in range(4)]
        for reader in readers:
            reader.start()
        locations = [Location(path=path, offset=8 * index, num_bytes=8) for index in range(64)]
        samples = Samples(locations, ReadTokens(), storage=storage)
        with Feed(make_loader(samples, 8, num_workers=2)) as feed:
            batches = torch.cat([feed.next() for _ in range(8)])
        for reader in readers:
            reader.join()
        assert found == [CONTENT] * 4
        assert torch.equal(batches, torch.stack([samples.on(LOCAL)[index] for index in range(64)]))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="is gone"):
        storage.read(path)


def test_a_shared_link_by_its_formula() -> None:
    link = SharedLink(1000.0)
    assert link.reserve(500, 10.0) == 10.5  # 500 bytes at 1,000 a second, from when it was asked for
    assert link.reserve(500, 10.0) == 11.0  # another reader's wait behind it
    assert link.reserve(500, 10.5) == 11.5
    assert link.reserve(1000, 20.0) == 21.0  # an idle link saves nothing up


@pytest.mark.parametrize("rate", [0.0, -5.0, float("inf"), float("nan")])
def test_rates_that_cannot_be(rate: float) -> None:
    with pytest.raises(UsageError, match=f"bytes_per_s must be above 0 and finite; got {rate}"):
        ThrottledStorage(rate)


def test_latencies_that_cannot_be() -> None:
    for latency_s in (-1.0, float("inf")):
        with pytest.raises(UsageError, match="latency_s must be at least 0"):
            ThrottledStorage(1e6, latency_s)


def test_a_storage_is_opened_once() -> None:
    storage = ThrottledStorage(1e6)
    with storage, pytest.raises(UsageError, match="open already"):
        storage.__enter__()
