"""A folder of shards and its manifest: how many samples each holds, and the hash that it must have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from labkit.errors import DataError
from labkit.records import write_durably

__all__ = ["MANIFEST", "Shard", "ShardFolder", "read_shards", "write_shards"]

MANIFEST = "labkit-shards.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of a folder; sha256 in hexadecimal."""

    name: str
    num_samples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFolder:
    """Shards in their order. ``format`` says how to read them; ``data_version`` what they were made from."""

    folder: Path
    format: str
    data_version: str
    shards: tuple[Shard, ...]

    @property
    def num_samples(self) -> int:
        return sum(shard.num_samples for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        return sum(shard.num_bytes for shard in self.shards)

    @property
    def bytes_per_sample(self) -> float:
        return self.num_bytes / self.num_samples

    def path(self, shard: Shard) -> Path:
        return self.folder / shard.name


def write_shards(
    folder: Path, format: str, data_version: str, contents: Mapping[str, bytes], num_samples: Mapping[str, int]
) -> ShardFolder:
    """Write files and, after all of them, the manifest: a folder without one was never finished."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for name, content in contents.items():
        write_durably(folder / name, content)
        sha256 = hashlib.sha256(content).hexdigest()
        shards.append(Shard(name=name, num_samples=num_samples[name], num_bytes=len(content), sha256=sha256))
    made = ShardFolder(folder=folder, format=format, data_version=data_version, shards=tuple(shards))
    plain = {"format": format, "data_version": data_version, "shards": [asdict(shard) for shard in shards]}
    write_durably(folder / MANIFEST, json.dumps(plain, indent=1).encode())
    return made


def read_shards(folder: Path, format: str, *, check: bool = True) -> ShardFolder:
    """The folder's shards. DataError: no manifest, another format, none in it, or with ``check`` a shard that is not
    what was written (its hash differs)."""
    path = folder / MANIFEST
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        shards = tuple(Shard(**shard) for shard in plain["shards"])
        found, version = str(plain["format"]), str(plain["data_version"])
    except OSError as error:
        raise DataError(f"{folder} holds no shards: {path.name} {error.strerror}. Write them again.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be understood ({error}). Write the shards again.") from error
    if found != format:
        raise DataError(f"{folder} holds shards in the format {found}; got asked for {format}. Name the other folder.")
    if not sum(shard.num_samples for shard in shards):
        raise DataError(f"{folder} holds no samples. Write the shards from a corpus that has some.")
    if check:
        for shard in shards:
            _check(folder / shard.name, shard)
    return ShardFolder(folder=folder, format=found, data_version=version, shards=shards)


def _check(path: Path, shard: Shard) -> None:
    try:
        with path.open("rb") as file:
            came = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"The shard {path} cannot be read ({error.strerror}). Write the shards again.") from error
    if came != shard.sha256:
        raise DataError(
            f"The shard {path} is not what was written: its SHA-256 is {came[:12]}…, its manifest says "
            f"{shard.sha256[:12]}…. Copy it again, or write the shards again."
        )
