"""A real corpus that every machine already has: the sources of installed packages, checked against their RECORD."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from labkit.errors import DataError, MissingPackageError, UsageError
from labkit.loader.samples import Location

__all__ = ["PACKAGES", "Corpus", "Document", "package_sources"]

# Pure Python of many authors, in the lock for other reasons.
PACKAGES = ("networkx",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file of the corpus; sha256 as its package's RECORD has it, in hexadecimal."""

    path: Path
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents in the order of their paths. ``version`` tells two corpora apart: a hash over all of them."""

    packages: tuple[str, ...]
    documents: tuple[Document, ...]

    @property
    def num_bytes(self) -> int:
        return sum(document.num_bytes for document in self.documents)

    @property
    def version(self) -> str:
        return hashlib.sha256("".join(one.sha256 for one in self.documents).encode()).hexdigest()[:16]

    def pieces(self, num_bytes: int) -> tuple[Location, ...]:
        """Pieces of whole lines, each of at least ``num_bytes``; what is left of a file's end is not used."""
        if num_bytes < 1:
            raise UsageError(f"A piece of text has at least one byte; got {num_bytes}.")
        found = tuple(piece for document in self.documents for piece in _cut(document.path, num_bytes))
        if not found:
            raise DataError(
                f"No file of {', '.join(self.packages)} has {num_bytes:,} bytes, so the corpus is empty. "
                "Ask for smaller pieces, or name larger packages."
            )
        return found


def package_sources(packages: Sequence[str] = PACKAGES) -> Corpus:
    """The .py files of installed packages.

    MissingPackageError: one is not installed. DataError: it has no sources, one cannot be read, or one's hash is not
    the one in its package's RECORD.
    """
    if not packages:
        raise UsageError("A corpus needs at least one package; got none. Name some, such as networkx.")
    documents = [document for package in packages for document in _documents(package)]
    return Corpus(packages=tuple(packages), documents=tuple(sorted(documents, key=lambda one: str(one.path))))


def _documents(package: str) -> Iterator[Document]:
    try:
        listed = distribution(package).files or []
    except PackageNotFoundError:
        raise MissingPackageError(package, needed_for="The corpus") from None
    sources = [file for file in listed if file.suffix == ".py" and file.size]
    if not sources:
        raise DataError(f"The package {package} lists no Python sources, so the corpus is empty. Name another one.")
    for file in sources:
        yield _checked(file)


def _checked(file: PackagePath) -> Document:
    path = Path(str(file.locate()))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} of the corpus cannot be read ({error.strerror}). Run `make setup` again.") from error
    came = hashlib.sha256(content)
    if file.hash is None or file.hash.mode != "sha256":
        raise DataError(f"{path} has no SHA-256 in its package's RECORD, so nobody can say that it is whole.")
    if base64.urlsafe_b64encode(came.digest()).rstrip(b"=").decode() != file.hash.value:
        raise DataError(
            f"{path} is not the file that its package's RECORD names: its hash differs. Run `make setup` again."
        )
    return Document(path=path, num_bytes=len(content), sha256=came.hexdigest())


def _cut(path: Path, num_bytes: int) -> Iterator[Location]:
    content, start = path.read_bytes(), 0
    while (end := content.find(b"\n", start + num_bytes - 1) + 1) > 0:
        yield Location(path=path, offset=start, num_bytes=end - start)
        start = end
