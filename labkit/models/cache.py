"""A folder made once, checked by checksum, shared by every process: made beside its name, published by one rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.errors import ModelError, NoSpaceError
from labkit.measure import OnProgress

__all__ = ["MANIFEST", "checksum", "is_sound", "made_once"]

MANIFEST = "labkit-manifest.json"


def checksum(path: Path) -> str:
    """SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_sound(folder: Path, source: str) -> bool:
    """Whether the folder was made from ``source`` (a checksum) and holds exactly what was written then."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        return bool(manifest["source"] == source and files) and all(
            checksum(folder / name) == wanted for name, wanted in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def made_once(
    folder: Path,
    source: str,
    make: Callable[[Path, OnProgress], None],
    *,
    needs_bytes: int,
    on_progress: OnProgress,
) -> Path:
    """``folder``, made by ``make`` if it is not there or not sound. A second process waits for the first.

    NoSpaceError when the disk cannot take needs_bytes or fills up on the way; nothing half-made is left then.
    ModelError when the folder cannot be written.
    """
    if is_sound(folder, source):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(folder.with_name(f".{folder.name}.lock"), on_progress):
            if not is_sound(folder, source):  # another process may have made it while this one waited
                _make(folder, source, make, needs_bytes, on_progress)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(f"The disk is full: {folder} could not be made. {_cure(needs_bytes)}") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ModelError(
                f"{folder} is not there or not sound, and it cannot be made there ({error.strerror}). "
                "Set LABKIT_HOME to a folder that can be written."
            ) from error
        raise
    return folder


def _make(
    folder: Path, source: str, make: Callable[[Path, OnProgress], None], needs_bytes: int, on_progress: OnProgress
) -> None:
    for torn in folder.parent.glob(f".{folder.name}.making-*"):  # whoever made it holds no lock, so it was killed
        shutil.rmtree(torn, ignore_errors=True)
    if (free := shutil.disk_usage(folder.parent).free) < needs_bytes:
        raise NoSpaceError(
            f"{folder} needs {needs_bytes / 1e6:.0f} MB, and {folder.parent} has {free / 1e6:.0f} MB left. "
            f"{_cure(needs_bytes)}"
        )
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.making-", dir=folder.parent))
    try:
        make(scratch, on_progress)
        on_progress(0.95, "checking what was written")
        files = {
            str(path.relative_to(scratch)): checksum(path) for path in sorted(scratch.rglob("*")) if path.is_file()
        }
        (scratch / MANIFEST).write_text(json.dumps({"source": source, "files": files}, indent=1), encoding="utf-8")
        for path in scratch.rglob("*"):
            path.chmod(0o644 if path.is_file() else 0o755)  # a workshop shares one cache
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.replace(folder)  # what a power cut leaves torn is found by its checksums and made again
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _cure(needs_bytes: int) -> str:
    return f"Free {needs_bytes / 1e6:.0f} MB, or set LABKIT_HOME to a folder on a larger disk."


@contextlib.contextmanager
def _only_one(path: Path, on_progress: OnProgress) -> Iterator[None]:
    """An advisory lock that the system releases when its holder dies."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                on_progress(0.0, "another process prepares the model; waiting for it")
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
