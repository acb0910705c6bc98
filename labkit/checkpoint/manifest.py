"""What a checkpoint says of itself: its step, its model, where it came from, and the hash of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.errors import DataError, UsageError

__all__ = ["FORMAT", "MANIFEST", "FileEntry", "Manifest", "hash_file"]

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a checkpoint, as it was when it was committed."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """id: never given twice. parent: the id of the checkpoint that training went on from, None at the start.

    model: names what the state belongs to, the same whenever it can be loaded (see `states.fingerprint`).
    """

    id: str
    step: int
    model: str
    parent: str | None
    world_size: int
    created_at: float
    files: Mapping[str, FileEntry]
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """JSON that carries a hash of itself: a flipped bit in the manifest is found as one in the data is."""
        body = asdict(self)
        return json.dumps(body | {"digest": _digest(body)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, where: Path) -> Manifest:
        """DataError: not what was written. UsageError: written by a newer labkit, which is no damage."""
        try:
            body = json.loads(data)
            digest = body.pop("digest")
            number = int(body["format"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where} is no manifest of a checkpoint: {error}. Restore an older checkpoint.") from None
        if digest != _digest(body):
            raise DataError(f"{where} is not what was committed: its own hash differs. Restore an older checkpoint.")
        if number > FORMAT:
            raise UsageError(
                f"{where} has format {number}; this labkit reads up to {FORMAT}. Update labkit, or name an older step."
            )
        body["files"] = {name: FileEntry(**entry) for name, entry in body["files"].items()}
        return cls(**body)


def hash_file(path: Path) -> FileEntry:
    """Size and SHA-256 of a file as it can be read now. OSError: it cannot."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(num_bytes=file.tell(), sha256=digest)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
