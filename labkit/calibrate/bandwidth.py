"""How fast bytes come and go: memory by a triad, disk by writes that are synced and reads that are not cached."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labkit.calibrate.page_cache import forget
from labkit.calibrate.threads import allowed_threads
from labkit.errors import NoSpaceError, UsageError
from labkit.hardware import free_bytes, lab_home, last_level_cache_bytes, machine
from labkit.measure import Measured, OnProgress, repeat
from labkit.units import MIB, format_bytes

__all__ = ["measure_bandwidth", "measure_disk"]

CHUNK_BYTES = 8 * MIB


@allowed_threads()
def measure_bandwidth(*, repeats: int = 9, device: str | None = None, num_bytes: int | None = None) -> Measured:
    """Memory bandwidth in B/s by STREAM's triad a = b + s·c (McCalpin 1995): two arrays read, one written.

    num_bytes: of each array; by default the three fill the last-level cache twice, so that nothing is found in it
    again, but never more than a quarter of the memory; where they fill it less, the name of the figure says so. What
    the hardware reads besides in order to write (write-allocate) is not counted, as in STREAM.
    """
    import torch

    here = machine()
    size = num_bytes or min(max(2 * last_level_cache_bytes() // 3, 64 * MIB), here.memory_bytes // 12)
    if size < 4:
        raise UsageError(f"num_bytes must hold at least one float32; got {size}.")
    count = size // 4
    where = device or here.device
    a, b, c = (torch.ones(count, device=where) for _ in range(3))
    taken = repeat(lambda: torch.add(b, c, alpha=3.0, out=a), name="triad", repeats=repeats, warmup=2)
    in_cache = where == "cpu" and 3 * size < 2 * last_level_cache_bytes() - 3  # as many bytes as thirds can lose
    return taken.rate(3 * 4 * count, "B/s", name="memory bandwidth" + (" (partly the cache's)" if in_cache else ""))


def measure_disk(
    folder: str | Path | None = None,
    *,
    num_bytes: int = 256 * MIB,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    on_progress: OnProgress | None = None,
) -> dict[str, Measured]:
    """Sequential write (until it is on the disk) and read, in B/s, of one file in ``folder`` (default: the lab's own).

    Before reading, the system is asked to forget the file; where it did not, the name of the figure says that the page
    cache was read. The file is always removed. NoSpaceError where it does not fit, by free space or by a quota.
    """
    place = Path(folder) if folder is not None else lab_home()
    if num_bytes < 1 or repeats < 1:
        raise UsageError(f"num_bytes and repeats are at least 1; got {num_bytes} and {repeats}.")
    if not place.is_dir():
        raise UsageError(f"The disk is measured in a folder that is there; got {place}.")
    if free_bytes(place) < 2 * num_bytes:
        raise _no_space(place, num_bytes)
    chunk = os.urandom(CHUNK_BYTES)  # not zeros: some filesystems store those for free
    writes, reads, cold = [], [], True
    with tempfile.TemporaryDirectory(prefix=".disk-", dir=place) as scratch:
        file = Path(scratch) / "data"
        for index in range(repeats):
            if on_progress:
                on_progress(index / repeats, f"disk, {format_bytes(num_bytes)}, {index + 1} of {repeats}")
            started = clock()
            try:
                written = _write(file, chunk, num_bytes)
            except OSError as error:  # a quota, or somebody else's data: what was free a moment ago is not any more
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise _no_space(place, num_bytes) from error
                raise
            writes.append(written / (clock() - started))
            cold = forget(file) and cold
            started = clock()
            read = _read(file)
            reads.append(read / (clock() - started))
    where = machine().id
    name = "disk read" if cold else "disk read (from the page cache)"
    return {
        "write": Measured.from_samples("disk write", writes, "B/s", machine=where),
        "read": Measured.from_samples(name, reads, "B/s", machine=where),
    }


def _write(file: Path, chunk: bytes, num_bytes: int) -> int:
    with file.open("wb", buffering=0) as out:
        left = num_bytes
        while left > 0:
            left -= out.write(chunk[: min(left, len(chunk))])
        os.fsync(out.fileno())
    return num_bytes


def _no_space(place: Path, num_bytes: int) -> NoSpaceError:
    return NoSpaceError(
        f"Measuring the disk at {place} writes {format_bytes(num_bytes)}; {format_bytes(free_bytes(place))} are free, "
        "or less by a quota. Free some space, or measure another folder."
    )


def _read(file: Path) -> int:
    total = 0
    buffer = bytearray(CHUNK_BYTES)
    with file.open("rb", buffering=0) as data:
        while count := data.readinto(buffer):
            total += count
    return total
