"""Durable files: after a crash at any moment the old content is there or the new, never a mixture and never nothing."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from labkit.errors import NoSpaceError

__all__ = ["REAL", "FileSystem", "RealFileSystem", "replace_durably", "write_durably"]

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
        with path.open("r+b") as file:  # Windows syncs only what is open for writing
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
    replace_durably(Path(path), lambda scratch: fs.write(scratch, data), fs=fs)


def replace_durably(target: Path, write: Callable[[Path], None], *, fs: FileSystem = REAL) -> None:
    """The same for content that ``write`` puts into a file of another name, in the target's folder."""
    scratch = target.with_name(f".{target.name}.{os.getpid()}-{next(_serial)}.new")
    try:
        write(scratch)
        fs.sync(scratch)  # the data first: a rename that outlives its data would publish an empty file
        fs.rename(scratch, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            fs.remove(scratch)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                f"No space is left to write {target}; what was there is unchanged. "
                "Free some space (`labkit clean` helps) and try again."
            ) from error
        raise
    fs.sync_folder(target.parent)  # now the new name, too, is on the disk
