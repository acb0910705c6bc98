"""Durable files: after a crash at any moment the old content is there or the new, never a mixture and never nothing."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from pathlib import Path
from typing import Protocol

from labkit.errors import NoSpaceError

__all__ = ["REAL", "FileSystem", "RealFileSystem", "write_durably"]

_serial = itertools.count()


class FileSystem(Protocol):
    """The few operations that durability is made of, so that tests can replay every crash between them."""

    def write(self, path: Path, data: bytes) -> None: ...
    def sync(self, path: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def sync_folder(self, folder: Path) -> None: ...
    def remove(self, path: Path) -> None: ...


class RealFileSystem:
    """The operating system's own."""

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def sync(self, path: Path) -> None:
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def sync_folder(self, folder: Path) -> None:
        """Make renames in a folder durable; a system that cannot open folders does that by itself."""
        with contextlib.suppress(PermissionError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)


REAL: FileSystem = RealFileSystem()


def write_durably(path: str | Path, data: bytes, *, fs: FileSystem = REAL) -> None:
    """Replace a file's whole content. NoSpaceError when the disk is full; the old content is then untouched."""
    target = Path(path)
    scratch = target.with_name(f".{target.name}.{os.getpid()}-{next(_serial)}.new")
    try:
        fs.write(scratch, data)
        fs.sync(scratch)  # the data first: a rename that outlives its data would publish an empty file
        fs.rename(scratch, target)
        fs.sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            fs.remove(scratch)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                f"No space is left to write {target} ({len(data)} bytes); what was there is unchanged. "
                "Free some space (`labkit clean` helps) and try again."
            ) from error
        raise
