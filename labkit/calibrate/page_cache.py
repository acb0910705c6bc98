"""Whether a file is still in memory: a read that the page cache answers says nothing about the disk."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

__all__ = ["cached_share", "forget"]

FORGOTTEN_SHARE = 0.01  # a few pages that the system keeps do not change the reading of a whole file


def forget(file: Path) -> bool:
    """Ask the system to drop ``file`` from the page cache; whether it did (tmpfs, say, has nowhere else to keep it)."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with file.open("rb") as data:
        os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return cached_share(file) <= FORGOTTEN_SHARE


def cached_share(file: Path) -> float:
    """The part of ``file`` that is in memory, by mincore(2): 0 to 1; 1 where the system cannot be asked."""
    mincore = getattr(ctypes.CDLL(None, use_errno=True), "mincore", None) if os.name == "posix" else None
    size = file.stat().st_size
    if mincore is None or not size:
        return 1.0
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with file.open("rb") as data, mmap.mmap(data.fileno(), size, access=mmap.ACCESS_COPY) as view:
        first = ctypes.c_char.from_buffer(view)  # mmap tells its address in no other way
        failed = mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), pages)
        del first  # the map cannot be closed while it is pointed into
    return 1.0 if failed else sum(page & 1 for page in pages) / len(pages)
