"""Where a checkpoint comes from: parent after parent, over rollbacks and branches, kept with a run's records."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from labkit.checkpoint.folders import ASIDE, STEP
from labkit.checkpoint.manifest import Manifest
from labkit.checkpoint.store import Store
from labkit.checkpoint.validation import Checkpoint, read_manifest
from labkit.errors import DataError, UsageError
from labkit.records import Run

__all__ = ["branch", "lineage", "note_lineage"]


def branch(store: Store, root: str | Path, step: int) -> Store:
    """A store of its own that starts with a copy of one checkpoint: two trainings go on from there, neither in the
    other's way. UsageError: the folder holds checkpoints already; DataError: the one to copy is damaged."""
    source = store.load(step)
    copy = Store(root, model=store.model, keep=store.keep, fs=store.fs)
    if copy.steps():
        raise UsageError(f"{root} holds checkpoints already: {copy.steps()}. Name an empty folder for the branch.")

    def write(staged: Path) -> None:
        for name in source.manifest.files:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path(name), staged / name)

    copy.publish(step, write, parent=source.id, world_size=source.manifest.world_size)
    return copy


def lineage(newest: Checkpoint, *stores: Store) -> list[Manifest]:
    """The checkpoint and what it comes from, newest first, as far back as manifests are left in the stores' folders;
    those set aside by a rollback count, those that retention has removed end it."""
    known = {}
    for store in stores:
        for folder in store.root.iterdir():
            if folder.is_dir() and folder.name.startswith((STEP, ASIDE)):
                try:
                    manifest = read_manifest(folder)
                except DataError:  # torn: nothing is told by it
                    continue
                known[manifest.id] = manifest
    line = [newest.manifest]
    while line[-1].parent in known:
        line.append(known[line[-1].parent])
    return line


def note_lineage(run: Run, newest: Checkpoint, *stores: Store) -> list[dict[str, Any]]:
    """Keep the line with a run, under "checkpoints": id, parent, step, model and world size of each, newest first."""
    keys = ("id", "parent", "step", "model", "world_size")
    rows = [{key: getattr(manifest, key) for key in keys} for manifest in lineage(newest, *stores)]
    run.note("checkpoints", rows)
    return rows
