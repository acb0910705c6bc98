"""Damage on purpose: copies of a checkpoint with one bit flipped, to see who notices."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from labkit.checkpoint.validation import Checkpoint
from labkit.errors import UsageError

__all__ = ["flip_bit", "truncate"]


def flip_bit(checkpoint: Checkpoint, folder: Path, *, seed: int) -> Checkpoint:
    """A copy in ``folder`` with one bit flipped, drawn from the seed over all bytes of its files, manifest aside."""
    copy, path, at = _copy(checkpoint, folder, seed)
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << random.Random(seed).randrange(8)
    path.write_bytes(data)
    return copy


def truncate(checkpoint: Checkpoint, folder: Path, *, seed: int) -> Checkpoint:
    """A copy in ``folder`` whose one file ends early, at a byte drawn from the seed."""
    copy, path, at = _copy(checkpoint, folder, seed)
    path.write_bytes(path.read_bytes()[:at])
    return copy


def _copy(checkpoint: Checkpoint, folder: Path, seed: int) -> tuple[Checkpoint, Path, int]:
    """The copy, and a file and a byte in it: a longer file is hit more often."""
    if not checkpoint.num_bytes:
        raise UsageError(f"{checkpoint.folder} holds no byte that could be damaged.")
    shutil.copytree(checkpoint.folder, folder)
    at = random.Random(seed).randrange(checkpoint.num_bytes)
    files = iter(checkpoint.manifest.files.items())
    name, entry = next(files)
    while at >= entry.num_bytes:
        at -= entry.num_bytes
        name, entry = next(files)
    return Checkpoint(folder=folder, manifest=checkpoint.manifest), folder / name, at
