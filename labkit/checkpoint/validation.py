"""Is a checkpoint what was committed? Every file is read and hashed: nothing less tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labkit.checkpoint.manifest import MANIFEST, Manifest, hash_file
from labkit.errors import DataError

__all__ = ["Checkpoint", "damage", "examine", "read_manifest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One published checkpoint: its folder, and what it says of itself."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def step(self) -> int:
        return self.manifest.step

    @property
    def num_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self.manifest.files.values())

    def path(self, name: str) -> Path:
        """Where one of its files lies."""
        return self.folder / name


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, its files unread. DataError: missing or damaged; UsageError: of a newer format."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{folder} has no manifest that can be read ({error}): it was never committed.") from None
    return Manifest.from_bytes(data, where=path)


def examine(folder: Path) -> Checkpoint:
    """The checkpoint, after every file of it was hashed. DataError names the first file that is not what it was."""
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        try:
            found = hash_file(folder / name)
        except OSError as error:
            raise DataError(f"{folder / name} cannot be read ({error}). Restore an older checkpoint.") from None
        if found.num_bytes != entry.num_bytes:
            raise DataError(
                f"{folder / name} has {found.num_bytes:,} bytes, was committed with {entry.num_bytes:,}: it is torn. "
                "Restore an older checkpoint."
            )
        if found.sha256 != entry.sha256:
            raise DataError(
                f"{folder / name} has other content than was committed: its hash differs. Restore an older checkpoint."
            )
    return Checkpoint(folder=folder, manifest=manifest)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None when it is whole."""
    try:
        examine(folder)
    except DataError as error:
        return str(error)
    return None
