"""The operations that a checkpoint's durability is made of: those of a durable file, and folders."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from labkit.errors import ConflictError
from labkit.records.files import FileSystem, RealFileSystem

__all__ = ["ASIDE", "PRUNED", "REAL_FOLDERS", "STAGED", "STEP", "FolderSystem", "RealFolderSystem", "only_writer"]

# How the folders of a store are named: published, half-written, half-removed, rolled back.
STEP, STAGED, PRUNED, ASIDE = "step-", ".staged-", ".pruned-", ".aside-"


class FolderSystem(FileSystem, Protocol):
    """A `FileSystem` that also makes and removes folders; ``rename`` moves a folder, unless the target holds files."""

    def make_folder(self, folder: Path) -> None: ...
    def remove_folder(self, folder: Path) -> None: ...


class RealFolderSystem(RealFileSystem):
    """The operating system's own."""

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def remove_folder(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)


REAL_FOLDERS: FolderSystem = RealFolderSystem()


@contextmanager
def only_writer(root: Path) -> Iterator[None]:
    """Nobody else writes in this folder meanwhile. The system lets go when the holder dies, also by SIGKILL.

    ConflictError: another process writes there now.
    """
    descriptor = os.open(root / ".writer", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"Another process writes checkpoints into {root} now. Give each job a folder of its own, or end the "
                "other job first."
            ) from None
        yield
    finally:
        os.close(descriptor)
