"""A disk on paper: what a crash may leave of a sequence of operations, unsynced data and names dropped or kept."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from labkit.checkpoint.folders import RealFolderSystem

__all__ = ["RecordingFolders", "crashes", "lay"]


class RecordingFolders(RealFolderSystem):
    """Does every operation and notes it; ``leave_out``: the sync of that number is neither done nor noted."""

    def __init__(self, leave_out: int | None = None) -> None:
        self.log: list[tuple] = []
        self.syncs, self._leave_out = 0, leave_out

    def write(self, path, data):
        super().write(path, data)
        self.log.append(("write", path, data))

    def sync(self, path):
        self._sync("sync", path)

    def sync_folder(self, folder):
        self._sync("sync_folder", folder)

    def _sync(self, operation, path):
        if self.syncs != self._leave_out:
            self.log.append((operation, path))
        self.syncs += 1

    def rename(self, source, target):
        super().rename(source, target)
        self.log.append(("rename", source, target))

    def make_folder(self, folder):
        super().make_folder(folder)
        self.log.append(("make_folder", folder))

    def remove_folder(self, folder):
        super().remove_folder(folder)
        self.log.append(("remove_folder", folder))


class _File:
    def __init__(self) -> None:
        self.now, self.kept = b"", b""


class _Folder:
    def __init__(self) -> None:
        self.now: dict = {}
        self.kept: dict = {}


def crashes(log: list[tuple], root: Path):
    """Every tree, nested dicts of bytes, that a crash behind ``log`` may leave under ``root``, which itself is durable.

    Names of the root, names of folders below and contents each reach the disk or not, in any order; contents also half.
    """
    top = _Folder()

    def at(path: Path):
        node = top
        for part in path.relative_to(root).parts:
            node = node.now[part]
        return node

    for operation, path, *rest in log:
        if operation == "write":
            at(path.parent).now.setdefault(path.name, _File()).now = rest[0]
        elif operation == "sync":
            at(path).kept = at(path).now
        elif operation == "sync_folder" and path.is_relative_to(root):
            at(path).kept = dict(at(path).now)
        elif operation == "rename":
            at(rest[0].parent).now[rest[0].name] = at(path.parent).now.pop(path.name)
        elif operation == "make_folder" and path != root:
            at(path.parent).now[path.name] = _Folder()
        elif operation == "remove_folder":
            at(path).now.clear()
            del at(path.parent).now[path.name]
    for names, below, content in product((False, True), (False, True), ("dropped", "half", "whole")):
        yield _tree(top, names, below, content)


def _tree(folder: _Folder, names: bool, below: bool, content: str):
    tree = {}
    for name, node in (folder.now if names else folder.kept).items():
        if isinstance(node, _Folder):
            tree[name] = _tree(node, below, below, content)
        else:
            whole = node.now != node.kept and content != "dropped"
            tree[name] = node.kept if not whole else node.now if content == "whole" else node.now[: len(node.now) // 2]
    return tree


def lay(tree, folder: Path) -> None:
    """Put such a tree into a real folder."""
    folder.mkdir()
    for name, node in tree.items():
        if isinstance(node, dict):
            lay(node, folder / name)
        else:
            (folder / name).write_bytes(node)
