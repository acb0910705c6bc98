"""What is read from memory is not called a disk; a disk that fills up says so; threads stay within the limit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from labkit import calibrate
from labkit.calibrate import bandwidth, page_cache, threads
from labkit.errors import NoSpaceError, UsageError
from labkit.hardware import filesystem_type
from labkit.units import MIB


def written(folder: Path) -> Path:
    file = folder / "data"
    with file.open("wb") as out:
        out.write(os.urandom(4 * MIB + 17))
        out.flush()
        os.fsync(out.fileno())
    return file


def test_a_file_just_written_is_in_memory_until_it_is_forgotten(tmp_path: Path) -> None:
    if filesystem_type(tmp_path) not in ("ext4", "xfs", "btrfs"):
        pytest.skip(f"{tmp_path} is on {filesystem_type(tmp_path)}, which may keep what it likes")
    file = written(tmp_path)
    assert page_cache.cached_share(file) == 1
    assert page_cache.forget(file)
    assert page_cache.cached_share(file) <= page_cache.FORGOTTEN_SHARE
    with file.open("rb", buffering=0) as data:
        os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
        data.read(MIB)
    assert page_cache.cached_share(file) == pytest.approx(1 / 4, abs=0.05)


@pytest.mark.skipif(filesystem_type("/dev/shm") != "tmpfs", reason="there is no tmpfs at /dev/shm")
def test_a_filesystem_in_memory_cannot_forget() -> None:
    found = calibrate.measure_disk("/dev/shm", num_bytes=MIB, repeats=1)
    assert found["read"].name == "disk read (from the page cache)"


def test_a_system_that_cannot_be_asked_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    found = calibrate.measure_disk(tmp_path, num_bytes=MIB, repeats=1)
    assert found["read"].name == "disk read (from the page cache)"


def test_one_repeat_from_the_cache_is_enough_to_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, False, True])
    monkeypatch.setattr(bandwidth, "forget", lambda file: next(answers))
    assert "page cache" in calibrate.measure_disk(tmp_path, num_bytes=MIB, repeats=3)["read"].name


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(file: Path, chunk: bytes, num_bytes: int) -> int:
        file.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(bandwidth, "_write", full)
    with pytest.raises(NoSpaceError, match="Free some space"):
        calibrate.measure_disk(tmp_path, num_bytes=MIB)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"in a folder that is there; got .*nowhere"):
        calibrate.measure_disk(tmp_path / "nowhere")


def test_threads_stay_within_the_limit_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        monkeypatch.setattr(threads, "machine", lambda: type("Machine", (), {"num_cores": 3}))
        with threads.allowed_threads():
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 6
        torch.set_num_threads(1)  # the user's choice of fewer
        with threads.allowed_threads() as allowed:
            assert (allowed, torch.get_num_threads()) == (1, 1)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("measured", ["triad", "matmul"])
def test_measurements_keep_to_the_limit(monkeypatch: pytest.MonkeyPatch, measured: str) -> None:
    seen: list[int] = []
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "machine", lambda: type("Machine", (), {"num_cores": 1}))
    real = calibrate.bandwidth.repeat

    def watched(fn, **rest):  # type: ignore[no-untyped-def]
        seen.append(torch.get_num_threads())
        return real(fn, **rest)

    monkeypatch.setattr(f"labkit.calibrate.{'bandwidth' if measured == 'triad' else 'matmul'}.repeat", watched)
    if measured == "triad":
        calibrate.measure_bandwidth(num_bytes=MIB, device="cpu", repeats=1)
    else:
        calibrate.measure_matmul("float32", [(8, 8, 8)], device="cpu", repeats=1)
    assert seen == [1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("cache", "name"), [(64, "memory bandwidth (partly the cache's)"), (1, "memory bandwidth")])
def test_a_triad_that_stays_in_the_cache_says_so(monkeypatch: pytest.MonkeyPatch, cache: int, name: str) -> None:
    monkeypatch.setattr(bandwidth, "last_level_cache_bytes", lambda: cache * MIB)
    assert calibrate.measure_bandwidth(num_bytes=MIB, device="cpu", repeats=1).name == name
