"""Where the lab keeps what it laid into a work folder: every version, and one small file of state a notebook.

``work/.base/notebooks/00_name.<version>.ipynb`` is a version as it was laid, ``work/.base/notebooks/00_name.json`` its
state, ``work/.base/kept/notebooks/00_name.<digest>.ipynb`` a learner's copy as it was before an update replaced it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.lessons.document import parse

__all__ = ["Offer", "Shelf", "State"]

ROOMS = ("notebooks", "exercises")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A version that could not be merged and was laid beside. over: the version that the copy stood on then."""

    version: str
    file: str
    over: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """version: the newest one laid, or found to be the learner's."""

    version: str
    offer: Offer | None = None

    def to_bytes(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The paths of one notebook: room ``notebooks`` or ``exercises``, stem ``00_name``."""

    work: Path
    room: str
    stem: str

    @property
    def copy(self) -> Path:
        return self.work / self.room / f"{self.stem}.ipynb"

    @property
    def state_file(self) -> Path:
        return self.work / ".base" / self.room / f"{self.stem}.json"

    def version_file(self, version: str) -> Path:
        return self.work / ".base" / self.room / f"{self.stem}.{version}.ipynb"

    def kept_file(self, data: bytes) -> Path:
        digest = hashlib.sha256(data).hexdigest()[:12]
        return self.work / ".base" / "kept" / self.room / f"{self.stem}.{digest}.ipynb"

    def beside(self, word: str, number: int) -> Path:
        """``00_name.new.ipynb``, then ``00_name.new-2.ipynb``: word is ``new`` or ``fresh``."""
        tail = word if number == 1 else f"{word}-{number}"
        return self.copy.with_name(f"{self.stem}.{tail}.ipynb")

    def state(self) -> State | None:
        """What was noted; None when nothing was, or nothing readable: then the copy itself says where it stands."""
        try:
            told = json.loads(self.state_file.read_bytes())
            offer = Offer(**told["offer"]) if told["offer"] else None
            return State(version=str(told["version"]), offer=offer)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def stored(self, version: str | None) -> dict[str, Any] | None:
        """A version as it was laid."""
        if version is None:
            return None
        try:
            return parse(self.version_file(version).read_bytes())
        except (OSError, ValueError):
            return None
