"""What two runs have in common and what not: the first question to a run that went wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import UsageError
from labkit.records.hygiene import flat

if TYPE_CHECKING:
    from labkit.records.store import Records

__all__ = ["PARTS", "Difference", "RunDiff", "diff_runs", "find_run"]

# What of a run can differ, in the order in which it is worth asking.
PARTS = ("seed", "config", "data", "code", "environment", "machine")
_MISSING = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One key of one part that is not the same; None: that run has none."""

    part: str
    key: str
    a: Any
    b: Any

    def __str__(self) -> str:
        left, right = (_MISSING if side is None else json.dumps(side, ensure_ascii=False) for side in (self.a, self.b))
        return f"{self.part}  {self.key}: {left} → {right}" if self.key else f"{self.part}: {left} → {right}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """causes: what was set differently. results: status and the figures that both measured, (a, b) with their units.

    unknown: parts of which at least one run kept nothing, so that no difference there could be seen.
    """

    a: str
    b: str
    names: tuple[str, str]
    causes: tuple[Difference, ...]
    unknown: tuple[str, ...]
    results: tuple[tuple[str, float, float, str], ...]
    statuses: tuple[str, str]

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that differ, in the order of PARTS."""
        return tuple(part for part in PARTS if any(one.part == part for one in self.causes))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "a": self.a, "b": self.b, "names": list(self.names), "statuses": list(self.statuses),
            "parts": list(self.parts), "unknown": list(self.unknown),
            "causes": [{"part": c.part, "key": c.key, "a": c.a, "b": c.b} for c in self.causes],
            "results": [{"name": name, "a": a, "b": b, "unit": unit} for name, a, b, unit in self.results],
        }  # fmt: skip


def find_run(records: Records, text: str) -> str:
    """A run's id from its id, the beginning of one, or a name: "10_x" is the latest of that name, "10_x~1" the one
    before it. UsageError: none, or more than one."""
    frame = records.runs()
    ids, names = frame["id"].tolist(), frame["name"].tolist()
    if text in ids:
        return text
    name, _, back = text.partition("~")
    of_name = [run_id for run_id, one in zip(ids, names, strict=True) if one == name]
    if of_name and (not back or back.isdigit()):
        number = int(back or 0)
        if number < len(of_name):
            return str(of_name[-1 - number])
        raise UsageError(f"There are {len(of_name)} runs of {name}; got {text}. `labkit records runs` lists them.")
    begun = [run_id for run_id in ids if text and run_id.startswith(text)]
    if len(begun) == 1:
        return str(begun[0])
    what = f"{len(begun)} runs begin with {text}" if begun else f"No run has the id or the name {text!r}"
    raise UsageError(f"{what}. `labkit records runs` lists them; NAME~1 is the one before the latest of that name.")


def diff_runs(records: Records, a: str, b: str) -> RunDiff:
    """Compare two runs; each as `find_run` takes it."""
    first, second = find_run(records, a), find_run(records, b)
    frame = records.runs().set_index("id")
    kept = {run_id: _kept(records, frame.loc[run_id]) for run_id in (first, second)}
    causes: list[Difference] = []
    unknown = []
    for part in PARTS:
        left, right = kept[first][part], kept[second][part]
        if left is None or right is None:
            unknown.append(part)
            continue
        flat_left, flat_right = flat(left), flat(right)
        causes += [
            Difference(part=part, key=key, a=flat_left.get(key), b=flat_right.get(key))
            for key in sorted({*flat_left, *flat_right})
            if flat_left.get(key) != flat_right.get(key)
        ]
    return RunDiff(
        a=first, b=second, names=(str(frame.loc[first, "name"]), str(frame.loc[second, "name"])),
        causes=tuple(causes), unknown=tuple(unknown), results=_results(records, first, second),
        statuses=(str(frame.loc[first, "status"]), str(frame.loc[second, "status"])),
    )  # fmt: skip


def _kept(records: Records, row: Any) -> dict[str, Any]:
    """Part -> what the run kept of it; None: nothing."""
    config = {key: value for key, value in row["config"].items() if key != "seed"}  # the seed is a part of its own
    environments = records.environments()
    machine = records.machines().get(row["machine_id"])
    return {
        "seed": row["seed"],
        "config": config,
        "data": row["data"] or None,
        "code": _of_the_checkout(row["code"]) or None,
        "environment": environments.get(row["environment_id"]),
        "machine": machine,
    }


def _of_the_checkout(code: Mapping[str, Any]) -> dict[str, Any]:
    """The versions of packages are the environment's part; without a commit nothing is known of the code."""
    own = {key: value for key, value in code.items() if key not in ("python", "labkit", "torch")}
    return own if any(value is not None for value in own.values()) else {}


def _results(records: Records, a: str, b: str) -> tuple[tuple[str, float, float, str], ...]:
    frame = records.measurements()
    sides: list[dict[str, tuple[float, str]]] = []
    for run_id in (a, b):
        rows = frame[frame["run_id"] == run_id]
        sides.append(
            {str(n): (float(v), str(u)) for n, v, u in zip(rows["name"], rows["value"], rows["unit"], strict=True)}
        )
    left, right = sides
    return tuple((name, left[name][0], right[name][0], left[name][1]) for name in left if name in right)
