"""Three-way merge of notebooks: cells are matched by their ids; one that both sides changed is merged by nbdime."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from labkit.lessons.document import VIEW_KEYS, cell_content

__all__ = ["Merged", "keep_outputs", "merge"]

Cell = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """document: None when there are conflicts; conflicts: each names a cell and says what clashes."""

    document: dict[str, Any] | None
    conflicts: tuple[str, ...] = ()


def merge(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> Merged:
    """base: what both come from; mine: the learner's copy, its outputs are carried over; theirs: the new version."""
    olds = {cell["id"]: cell for cell in base["cells"]}
    own = _with_ids(mine["cells"], base["cells"])
    news = {cell["id"]: cell for cell in theirs["cells"]}
    numbers = {name: number for number, name in enumerate(own, 1)}
    cells: dict[str, Cell] = {}
    conflicts: list[str] = []
    for name in [*own, *(name for name in news if name not in own)]:
        cell, clash = _merge_cell(olds.get(name), own.get(name), news.get(name))
        if clash:
            shown = own.get(name) or olds[name]
            place = f"cell {numbers[name]}" if name in numbers else "a cell that you deleted"
            conflicts.append(f"{place} (id {name}, {_title(shown)}): {clash}")
        elif cell is not None:
            cells[name] = cell
    order = _order([*olds], [*own], [*news], set(cells))
    if order is None:
        conflicts.append("the order of the cells: both you and the new version moved some")
    if conflicts or order is None:
        return Merged(document=None, conflicts=tuple(conflicts))
    merged = copy.deepcopy(theirs)
    merged["cells"] = [cells[name] for name in order]
    merged["metadata"] = _merge_metadata(base["metadata"], mine["metadata"], theirs["metadata"])
    merged["nbformat_minor"] = max(5, mine.get("nbformat_minor", 0), theirs.get("nbformat_minor", 0))
    return Merged(document=merged)


def keep_outputs(theirs: dict[str, Any], mine: dict[str, Any]) -> dict[str, Any]:
    """The new version with the learner's outputs wherever the code that gave them is still the same."""
    updated = copy.deepcopy(theirs)
    own = {cell.get("id"): cell for cell in mine["cells"]}
    updated["cells"] = [_with_outputs(cell, own.get(cell.get("id"))) for cell in updated["cells"]]
    updated["metadata"] = _merge_metadata(theirs["metadata"], mine["metadata"], theirs["metadata"])
    return updated


def _merge_cell(old: Cell | None, mine: Cell | None, new: Cell | None) -> tuple[Cell | None, str]:
    """The merged cell (None: it is gone) and what clashes, if anything does."""
    if mine is None:
        if old is None or new is None:
            return new, ""
        clash = "" if cell_content(new) == cell_content(old) else "you deleted it, and the new version changes it"
        return None, clash
    if new is None:
        edited = old is None or cell_content(mine) != cell_content(old)
        clash = "you changed it, and the new version removes it" if edited and old is not None else ""
        return (mine if edited else None), clash
    if cell_content(mine) == cell_content(new) or (old is not None and cell_content(new) == cell_content(old)):
        return mine, ""
    if old is not None and cell_content(mine) == cell_content(old):
        return _with_outputs(new, mine), ""
    if old is None:
        return None, "it is new in both, and not the same"
    return _merge_by_nbdime(old, mine, new)


def _merge_by_nbdime(old: Cell, mine: Cell, new: Cell) -> tuple[Cell | None, str]:
    import nbformat
    from nbdime.merging.notebooks import merge_notebooks

    if not old["cell_type"] == mine["cell_type"] == new["cell_type"]:
        return None, "you or the new version changed what kind of cell it is"
    as_node: Any = nbformat.from_dict

    def alone(cell: Cell) -> Any:
        bare = {"id": old["id"], **cell_content(cell)}
        if cell["cell_type"] == "code":
            bare |= {"outputs": [], "execution_count": None}
        if not bare["attachments"]:
            del bare["attachments"]
        return as_node({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [bare]})

    merged, decisions = merge_notebooks(alone(old), alone(mine), alone(new))
    if any(decision.conflict for decision in decisions) or len(merged.cells) != 1:
        return None, "you and the new version change the same lines"
    result = {**copy.deepcopy(mine), **merged.cells[0], "id": mine["id"]}
    view = {key: value for key, value in mine["metadata"].items() if key in VIEW_KEYS}
    result["metadata"] = {**view, **merged.cells[0]["metadata"]}
    if result["cell_type"] == "code":
        result["outputs"], result["execution_count"] = [], None  # they belong to code that is no longer there
    return result, ""


def _with_outputs(new: Cell, mine: Cell | None) -> Cell:
    cell = copy.deepcopy(new)
    if mine is not None and cell["cell_type"] == mine["cell_type"] == "code" and cell["source"] == mine["source"]:
        cell["outputs"] = copy.deepcopy(mine.get("outputs", []))
        cell["execution_count"] = mine.get("execution_count")
    return cell


def _with_ids(cells: list[Cell], base: list[Cell]) -> dict[str, Cell]:
    """The learner's cells by id. Some tools drop ids: an unchanged cell gets its old one back, any other a new one."""
    taken = {str(cell["id"]) for cell in cells if cell.get("id")}
    free = [cell for cell in base if cell["id"] not in taken]
    found: dict[str, Cell] = {}
    for number, cell in enumerate(cells, 1):
        name = cell.get("id")
        if not name or name in found:
            same = next((old for old in free if cell_content(old) == cell_content(cell)), None)
            if same is not None:
                free.remove(same)
            name = same["id"] if same is not None else f"own-{number}"
            while name in found or (same is None and name in taken):
                name += "-x"
        found[str(name)] = {**cell, "id": str(name)}
    return found


def _order(base: list[str], mine: list[str], theirs: list[str], kept: set[str]) -> list[str] | None:
    """The order of the kept cells; None when both sides moved shared cells, and differently."""
    shared = set(base) & set(mine) & set(theirs)
    was, is_mine, is_theirs = ([name for name in names if name in shared] for names in (base, mine, theirs))
    if is_mine not in (was, is_theirs) and is_theirs != was:
        return None
    # Whoever moved cells gives the order; the other's own cells follow the cell that they followed there.
    backbone, other = (theirs, mine) if is_mine in (was, is_theirs) else (mine, theirs)
    order = [name for name in backbone if name in kept]
    before = None
    for name in other:
        if name in kept and name not in order:
            order.insert(order.index(before) + 1 if before is not None else 0, name)
        if name in order:
            before = name
    return order


def _merge_metadata(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The lesson's own labels are the new version's; of the rest, what the learner changed stays."""
    merged = {**theirs}
    for key in {*base, *mine} - {"labkit"}:
        if mine.get(key) != base.get(key):
            merged.pop(key, None)
            if key in mine:
                merged[key] = copy.deepcopy(mine[key])
    return merged


def _title(cell: Cell) -> str:
    """A cell's first line, for people to find it by."""
    first = next((line.strip() for line in cell["source"].splitlines() if line.strip()), "empty")
    return f"`{first[:60]}{'…' if len(first) > 60 else ''}`"
