"""A folder of checkpoints that no crash tears: staged, synced, hashed, published by one rename.

    store = Store(folder, model="my job", keep=3)
    store.publish(step, lambda staged: torch.save(state, staged / "state.pt"))
    newest = store.latest()  # the newest that is whole, or None
    state = torch.load(newest.path("state.pt"))

It loads no torch. `labkit.checkpoint.states` puts training states into it, sharded over ranks.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.checkpoint.folders import ASIDE, PRUNED, REAL_FOLDERS, STAGED, STEP, FolderSystem, only_writer
from labkit.checkpoint.manifest import MANIFEST, Manifest, hash_file
from labkit.checkpoint.validation import Checkpoint, damage, examine, read_manifest
from labkit.errors import ConflictError, DataError, NoSpaceError, UsageError

__all__ = ["Store", "Write", "told"]

Write = Callable[[Path], None]  # puts a checkpoint's files into the folder that it is given

_PUBLISHED = re.compile(STEP + r"(\d{10})")
_serial = itertools.count()


class Store:
    """root: a folder of this job's own. model: what its states belong to. keep: how many checkpoints stay, at least 1.

    clock: seconds since 1970. UsageError: a root that cannot be written, keep below 1.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        model: str,
        keep: int = 3,
        fs: FolderSystem = REAL_FOLDERS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if keep < 1:
            raise UsageError(f"keep must be at least 1; got {keep}: a store that keeps nothing restores nothing.")
        self.root, self.model, self.keep, self.fs, self._now = Path(root), model, keep, fs, clock
        if not self.root.is_dir():
            with told(self.root):
                fs.make_folder(self.root)
                fs.sync_folder(self.root.parent)

    def publish(self, step: int, write: Write, *, parent: str | None = None, world_size: int = 1) -> Checkpoint:
        """Let ``write`` fill a staged folder, then commit it: when this returns, no crash takes it away.

        parent: the id of the checkpoint that training went on from. NoSpaceError: the disk is full; ConflictError:
        another process writes here, or the step is there already. In every case what was published before stays.
        """
        with self.writing(step) as staged:
            write(staged)
            return self.commit(staged, step, parent=parent, world_size=world_size)

    @contextlib.contextmanager
    def writing(self, step: int) -> Iterator[Path]:
        """A staged folder, this process the only writer; removed again unless `commit` has published it."""
        if step < 0:
            raise UsageError(f"step must be at least 0; got {step}.")
        with told(self.root), only_writer(self.root):
            self.sweep()
            if self.folder(step).exists():
                if damage(self.folder(step)) is None:
                    raise ConflictError(f"{self.folder(step)} is there already. Resume behind it, or roll back first.")
                self._set_aside(step)  # a torn one, which training has come past again
            staged = self.root / f"{STAGED}{step}-{os.getpid()}-{next(_serial)}"
            self.fs.make_folder(staged)
            try:
                yield staged
            finally:
                if staged.exists():
                    self.fs.remove_folder(staged)

    def commit(self, staged: Path, step: int, *, parent: str | None = None, world_size: int = 1) -> Checkpoint:
        """Sync and hash what lies in a staged folder, publish it, and only then prune what is too old."""
        files = sorted(path for path in staged.rglob("*") if path.is_file())
        for path in files:
            self.fs.sync(path)
        manifest = Manifest(
            id=uuid.uuid4().hex,
            step=step,
            model=self.model,
            parent=parent,
            world_size=world_size,
            created_at=self._now(),
            files={path.relative_to(staged).as_posix(): hash_file(path) for path in files},
        )
        self.fs.write(staged / MANIFEST, manifest.to_bytes())
        self.fs.sync(staged / MANIFEST)
        for folder in sorted({path.parent for path in files} | {staged}, reverse=True):
            self.fs.sync_folder(folder)  # the names of the files, too, are on the disk
        self.fs.rename(staged, self.folder(step))  # the moment: before it nothing is there, after it all is
        self.fs.sync_folder(self.root)
        self.prune()
        return Checkpoint(folder=self.folder(step), manifest=manifest)

    def folder(self, step: int) -> Path:
        return self.root / f"{STEP}{step:010d}"

    def steps(self) -> list[int]:
        """The published steps, oldest first; whether they are whole is not asked."""
        found = (_PUBLISHED.fullmatch(path.name) for path in self.root.iterdir() if path.is_dir())
        return sorted(int(match[1]) for match in found if match)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones are passed over. None: there is none.

        UsageError: the newest whole one is of another model, or of a newer format, which is no damage to pass over.
        """
        for step in reversed(self.steps()):
            with contextlib.suppress(DataError):
                return self.load(step)
        return None

    def load(self, step: int) -> Checkpoint:
        """One checkpoint, every file of it hashed. DataError: missing or damaged; UsageError: of another model."""
        if not self.folder(step).is_dir():
            there = ", ".join(map(str, self.steps())) or "none"
            raise DataError(f"{self.root} has no checkpoint of step {step}; there are: {there}.")
        self._same_model(read_manifest(self.folder(step)))
        return examine(self.folder(step))

    def prune(self) -> list[int]:
        """Remove the oldest beyond ``keep``; the steps that went. Right after a commit, so the newest is whole."""
        old = self.steps()[: -self.keep]
        for step in old:
            # One rename first: a half-removed checkpoint must not carry the name of a published one.
            gone = self.root / f"{PRUNED}{step}-{uuid.uuid4().hex}"
            self.fs.rename(self.folder(step), gone)
            self.fs.remove_folder(gone)
        return old

    def sweep(self) -> None:
        """Remove what a crash left behind: half-written and half-removed checkpoints. Only for the one writer."""
        for path in self.root.iterdir():
            if path.name.startswith((STAGED, PRUNED)):
                self.fs.remove_folder(path)

    def rollback(self, step: int) -> list[int]:
        """Set every checkpoint behind ``step`` aside, kept in the folder but no longer offered; the steps that went.

        The newest first: a crash between two leaves the newest of what is still offered in its place.
        """
        self.load(step)
        gone = [later for later in reversed(self.steps()) if later > step]
        with told(self.root), only_writer(self.root):
            for later in gone:
                self._set_aside(later)
        return gone

    def _set_aside(self, step: int) -> None:
        self.fs.rename(self.folder(step), self.root / f"{ASIDE}{step:010d}-{uuid.uuid4().hex}")
        self.fs.sync_folder(self.root)

    def _same_model(self, manifest: Manifest) -> None:
        if manifest.model != self.model:
            raise UsageError(
                f"{self.folder(manifest.step)} belongs to the model {manifest.model!r}; got a store for "
                f"{self.model!r}. Name the folder of this model's checkpoints, or build the other model."
            )


@contextlib.contextmanager
def told(root: Path) -> Iterator[None]:
    """The system's refusals, in the lab's words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                f"No space is left for a checkpoint in {root}; those published before are whole. Free some space, or "
                "keep fewer."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UsageError(f"{root} cannot be written ({error}). Name a folder that this user may write.") from error
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise ConflictError(f"{root} already holds what was to be published: {error}. Roll back first.") from error
        raise
