"""What is to be done about one work copy: decided here without a write, carried out by `labkit.lessons.copies`.

The writes of a plan stand in an order in which each of them may be the last: the version before the copy that stands on
it, the old copy kept before it is replaced, the copy in one piece with its stamp, and the state, which only saves
questions, at the end. Planning again after any of them leads to the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labkit.errors import UsageError
from labkit.lessons.document import COPY_KEY, parse, render, stamped, version_of
from labkit.lessons.merge import keep_outputs, merge
from labkit.lessons.shelf import Offer, Shelf, State

__all__ = ["Plan", "plan"]

Document = dict[str, Any]
MAX_BESIDE = 100
Outcome = Literal["laid", "updated", "merged", "conflict", "unchanged", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """writes: (file, content) in order; seen: the copy's bytes that it was decided on, None when there were none."""

    outcome: Outcome
    writes: tuple[tuple[Path, bytes], ...] = ()
    seen: bytes | None = None
    beside: Path | None = None
    cells: tuple[str, ...] = ()
    reason: str = ""


def plan(shelf: Shelf, upstream: Document, *, restore: bool = False) -> Plan:
    """Read the learner's copy and decide. upstream: the lesson or exercise as the checkout has it."""
    version = version_of(upstream)
    state = shelf.state()
    try:
        seen = shelf.copy.read_bytes()
        mine = parse(seen)
    except FileNotFoundError:
        if state is not None and not restore:
            return Plan(outcome="deleted")
        fresh = (shelf.copy, render(stamped(upstream, version)))
        return Plan(outcome="laid", writes=_writes(shelf, upstream, version, fresh))
    except (OSError, ValueError) as error:
        return _offer(shelf, upstream, state, over=None, reason=f"it cannot be read as a notebook ({error})")
    own, stamp = version_of(mine), _stamp(mine)
    if own == version:
        return Plan(outcome="unchanged", seen=seen, writes=_writes(shelf, upstream, version))
    base_version, settled = _base(shelf, state, own, stamp)
    if own == base_version:  # only run, or not even that
        changed = keep_outputs(upstream, mine)
        return _replace(shelf, upstream, seen, mine, changed, "updated")
    if base_version == version:
        offer = state.offer if state is not None and settled else None
        return Plan(outcome="unchanged", seen=seen, writes=_writes(shelf, upstream, version, offer=offer))
    base = shelf.stored(base_version)
    if base is None:
        return _offer(shelf, upstream, state, over=stamp, reason="it is not known which version you started from")
    result = merge(base, mine, upstream)
    if result.document is None:
        reason = "you and the new version changed the same"
        return _offer(shelf, upstream, state, over=stamp, reason=reason, cells=result.conflicts)
    return _replace(shelf, upstream, seen, mine, result.document, "merged")


def _base(shelf: Shelf, state: State | None, own: str, stamp: str | None) -> tuple[str | None, bool]:
    """The version that the copy's edits are edits of, and whether an offer was settled by deleting the offered file."""
    if own == stamp or shelf.stored(own) is not None:
        return own, False
    offer = state.offer if state is not None else None
    if offer is not None and offer.over == stamp and not shelf.copy.with_name(offer.file).exists():
        return offer.version, True  # the learner has taken from it what they wanted
    return (stamp or (state.version if state is not None else None)), False


def _stamp(document: Document) -> str | None:
    mark = document["metadata"].get(COPY_KEY)
    return str(mark["version"]) if isinstance(mark, dict) and "version" in mark else None


def _writes(
    shelf: Shelf, upstream: Document, version: str, *middle: tuple[Path, bytes], offer: Offer | None = None
) -> tuple[tuple[Path, bytes], ...]:
    """The version, then what is to be written, then the state; what stands already is left out."""
    state = State(version=version, offer=offer)
    before = [] if shelf.stored(version) is not None else [(shelf.version_file(version), render(upstream))]
    after = [] if shelf.state() == state else [(shelf.state_file, state.to_bytes())]
    return (*before, *middle, *after)


def _replace(
    shelf: Shelf, upstream: Document, seen: bytes, mine: Document, changed: Document, outcome: Outcome
) -> Plan:
    version = version_of(upstream)
    new = (shelf.copy, render(stamped(changed, version)))
    keep = [(shelf.kept_file(seen), seen)] if _loses(shelf, mine, changed) else []
    return Plan(outcome=outcome, seen=seen, writes=_writes(shelf, upstream, version, *keep, new))


def _loses(shelf: Shelf, mine: Document, changed: Document) -> bool:
    """Whether a source or an output of the learner's is in no version and not in the new copy."""
    there = [(cell["source"], cell.get("outputs") or []) for cell in changed["cells"]]
    base = shelf.stored(_stamp(mine)) or {"cells": []}
    laid = [cell["source"] for cell in base["cells"]]
    for cell in mine["cells"]:
        outputs = cell.get("outputs") or []
        if (cell["source"], outputs) not in there and (outputs or cell["source"] not in laid):
            return True
    return False


def _offer(
    shelf: Shelf, upstream: Document, state: State | None, *, over: str | None, reason: str, cells: tuple[str, ...] = ()
) -> Plan:
    """Lay the new version beside the copy, unless it is there already."""
    version = version_of(upstream)
    data = render(stamped(upstream, version))
    offer = state.offer if state is not None else None
    if offer is not None and offer.version == version and shelf.copy.with_name(offer.file).exists():
        return Plan(outcome="conflict", beside=shelf.copy.with_name(offer.file), cells=cells, reason=reason)
    beside = next((path for n in range(1, MAX_BESIDE) if _may_hold(path := shelf.beside("new", n), data)), None)
    if beside is None:
        raise UsageError(f"No new version can be laid beside {shelf.copy}: {MAX_BESIDE - 1} are there. Delete some.")
    # The state keeps the version that was laid before: this one is only offered.
    noted = State(
        version=state.version if state is not None else over or version,
        offer=Offer(version=version, file=beside.name, over=over),
    )
    writes = [] if shelf.stored(version) is not None else [(shelf.version_file(version), render(upstream))]
    writes += [] if beside.exists() and beside.read_bytes() == data else [(beside, data)]
    writes.append((shelf.state_file, noted.to_bytes()))
    return Plan(outcome="conflict", writes=tuple(writes), beside=beside, cells=cells, reason=reason)


def _may_hold(path: Path, data: bytes) -> bool:
    """Whether a file beside the copy may be written: it is not there, or is a version as the lab laid it."""
    try:
        there = path.read_bytes()
        document = parse(there)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError, ValueError):
        return False
    stamp = _stamp(document)
    return there == data or (stamp == version_of(document) and there == render(document) and not _was_run(document))


def _was_run(document: Document) -> bool:
    return any(cell.get("outputs") or cell.get("execution_count") for cell in document["cells"])
