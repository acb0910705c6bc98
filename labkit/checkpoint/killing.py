"""A filesystem that ends its own process by SIGKILL at one of its operations: before it, or half-way through."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from labkit.checkpoint.folders import PRUNED, STAGED, RealFolderSystem

__all__ = ["KillingFolders"]


class KillingFolders(RealFolderSystem):
    """after: operations that are still done. tell: is called with where: "writing", "publishing", "pruning".

    Of the next one half is done where it has halves: half of the bytes, half of the files.
    """

    def __init__(self, after: int, tell: Callable[[str], None]) -> None:
        self._left, self._tell = after, tell

    def write(self, path: Path, data: bytes) -> None:
        if self._last():
            path.write_bytes(data[: len(data) // 2])
            self._end("writing")
        super().write(path, data)

    def sync(self, path: Path) -> None:
        if self._last():
            self._end("writing")
        super().sync(path)

    def sync_folder(self, folder: Path) -> None:
        if self._last():
            self._end("writing" if folder.name.startswith(STAGED) else "publishing")
        super().sync_folder(folder)

    def rename(self, source: Path, target: Path) -> None:
        if self._last():
            self._end("pruning" if target.name.startswith(PRUNED) else "publishing")
        super().rename(source, target)

    def make_folder(self, folder: Path) -> None:
        if self._last():
            self._end("writing")
        super().make_folder(folder)

    def remove_folder(self, folder: Path) -> None:
        if self._last():
            files = sorted(path for path in folder.iterdir() if path.is_file())
            for path in files[: (len(files) + 1) // 2]:
                path.unlink()
            self._end("pruning")
        super().remove_folder(folder)

    def _last(self) -> bool:
        self._left -= 1
        return self._left == -1

    def _end(self, where: str) -> None:
        self._tell(where)
        os.kill(os.getpid(), signal.SIGKILL)
