"""The learner's own copies: laid, brought up to date, never overwritten. Interrupted anywhere, it is safe to repeat."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import NotebookError, UsageError
from labkit.lessons.document import read, render, stamped, version_of
from labkit.lessons.plan import Plan, plan
from labkit.lessons.shelf import ROOMS, Shelf
from labkit.records import REAL, FileSystem, write_durably

__all__ = ["Conflict", "WorkReport", "reset", "start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A copy that was left as it is. beside: the new version, laid next to it; cells: where both sides changed."""

    path: Path
    beside: Path | None
    cells: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        where = f" in {'; '.join(self.cells)}" if self.cells else ""
        laid = f" The new version is beside it: {self.beside.name}." if self.beside is not None else ""
        return (
            f"{self.path} was left as it is: {self.reason}{where}.{laid} "
            "Take from it what you want, then delete it; `labkit start` goes on from there."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkReport:
    """What became of each copy. deleted: by the learner, laid again by restore; removed: no longer in the lab, kept."""

    laid: tuple[Path, ...] = ()
    updated: tuple[Path, ...] = ()
    merged: tuple[Path, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    unchanged: tuple[Path, ...] = ()
    deleted: tuple[Path, ...] = ()
    removed: tuple[Path, ...] = ()


@dataclass(slots=True)
class _Tally:
    paths: dict[str, list[Path]] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)


def start(root: str | Path, work: str | Path, *, restore: bool = False, fs: FileSystem = REAL) -> WorkReport:
    """Lay or update ``work/notebooks`` and ``work/exercises`` from the checkout at ``root``.

    restore: lay again what the learner deleted. UsageError where work/ would be the checkout's own folders.
    """
    here, there = Path(root).resolve(), Path(work).resolve()
    for room in ROOMS:
        if (there / room) == (here / room) or here / room in there.parents or there == here / room:
            raise UsageError(f"Work copies cannot live in the checkout's own {here / room}. Use {here / 'work'}.")
    tally = _Tally()
    for room in ROOMS:
        sources = sorted((here / room).glob("*.ipynb"))
        try:
            for source in sources:
                _bring_up_to_date(Shelf(work=there, room=room, stem=source.stem), source, restore, fs, tally)
        except OSError as error:
            raise _cannot_write(error, there) from error
        _find_removed(there, room, {source.stem for source in sources}, tally)
    return WorkReport(
        conflicts=tuple(tally.conflicts),
        **{name: tuple(paths) for name, paths in tally.paths.items()},
    )


def _bring_up_to_date(shelf: Shelf, source: Path, restore: bool, fs: FileSystem, tally: _Tally) -> None:
    upstream = read(source)
    ids = [cell.get("id") for cell in upstream["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        raise NotebookError(f"{source} has cells without an id, or with the same one: no update could be merged.")
    made = plan(shelf, upstream, restore=restore)
    while not _carried_out(shelf, made, fs):
        made = plan(shelf, upstream, restore=restore)  # the learner saved in between
    if made.outcome == "conflict":
        conflict = Conflict(path=shelf.copy, beside=made.beside, cells=made.cells, reason=made.reason)
        tally.conflicts.append(conflict)
    else:
        tally.paths.setdefault(made.outcome, []).append(shelf.copy)


def _carried_out(shelf: Shelf, made: Plan, fs: FileSystem) -> bool:
    """Write what was planned; False as soon as the copy is no longer the one that the plan has seen."""
    for path, data in made.writes:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path == shelf.copy:
            now = path.read_bytes() if path.exists() else None
            if now != made.seen:
                return False
        write_durably(path, data, fs=fs)
    return True


def _cannot_write(error: OSError, work: Path) -> UsageError:
    return UsageError(
        f"The work copies cannot be written: {error.strerror or error} ({error.filename or work}). "
        f"Make {work} writable, or name another folder with --work."
    )


def _find_removed(work: Path, room: str, known: set[str], tally: _Tally) -> None:
    for state_file in sorted((work / ".base" / room).glob("*.json")):
        copy = work / room / f"{state_file.stem}.ipynb"
        if state_file.stem not in known and copy.exists():
            tally.paths.setdefault("removed", []).append(copy)


def reset(path: str | Path, *, fs: FileSystem = REAL) -> Path:
    """Lay the newest version beside a work copy, as ``00_name.fresh.ipynb``, and return it. The copy is not touched."""
    copy = Path(path).resolve()
    shelf = Shelf(work=copy.parents[1], room=copy.parent.name, stem=copy.stem)
    state = shelf.state()
    document = shelf.stored(state.version) if state is not None else None
    if document is None:
        raise UsageError(
            f"{path} is not a work copy that the lab laid. Name one in work/notebooks or work/exercises; "
            "`labkit start` lays them."
        )
    number = 1
    while shelf.beside("fresh", number).exists():
        number += 1
    fresh = shelf.beside("fresh", number)
    write_durably(fresh, render(stamped(document, version_of(document))), fs=fs)
    return fresh
