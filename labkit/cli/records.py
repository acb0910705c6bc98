"""``labkit records``: where they are, a safe copy, the list of runs, and what tells two runs apart."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import UsageError
from labkit.units import format_bytes, format_quantity

if TYPE_CHECKING:
    from labkit.records import Records, RunDiff

__all__ = ["records"]

LISTED = 30


def records(options: Namespace) -> int:
    """One of path, backup FILE, runs [NAME], diff A B."""
    from labkit.records import Records

    words = {"path": (0, 0), "backup": (1, 1), "runs": (0, 1), "diff": (2, 2)}
    least, most = words[options.action]
    if not least <= len(options.words) <= most:
        usage = {"path": "", "backup": " FILE", "runs": " [NAME]", "diff": " A B"}[options.action]
        raise UsageError(
            f"`labkit records {options.action}` needs {least or 'no'} word{'s' * (least != 1)}; got "
            f"{len(options.words)}: labkit records {options.action}{usage}"
        )
    with Records() as store:
        if options.action == "path":
            print(store.path)
        elif options.action == "backup":
            _backup(store, Path(options.words[0]))
        elif options.action == "runs":
            _runs(store, options.words[0] if options.words else "", as_json=options.json)
        else:
            found = store.diff(*options.words)
            print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False) if options.json else _told(found))
    return 0


def _backup(store: Records, target: Path) -> None:
    if target.exists():
        raise UsageError(f"{target} exists already and is not overwritten. Name another file.")
    store.backup(target)
    print(f"{format_bytes(target.stat().st_size):>12}  {target}")


def _runs(store: Records, name: str, *, as_json: bool) -> None:
    frame = store.runs()
    if name:
        frame = frame[frame["name"] == name]
    columns = ["id", "name", "started_at", "status", "seed"]
    rows = json.loads(frame[columns].to_json(orient="records", date_format="iso"))
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    if not rows:
        print("No run has been recorded yet." if not name else f"No run of {name} has been recorded.")
    for row in rows[-LISTED:]:
        print(f"{row['id']}  {row['started_at'][:19]}  {row['status']:>8}  {row['name']}  seed {row['seed']}")
    if len(rows) > LISTED:
        print(f"… and {len(rows) - LISTED} before them; --json lists all.")


def _told(found: RunDiff) -> str:
    lines = [
        f"a  {found.a}  {found.names[0]}  {found.statuses[0]}",
        f"b  {found.b}  {found.names[1]}  {found.statuses[1]}",
    ]
    lines += [str(cause) for cause in found.causes] or ["Nothing that was recorded differs."]
    if found.unknown:
        lines.append(f"not recorded by both, so not compared: {', '.join(found.unknown)}")
    for name, a, b, unit in found.results:
        lines.append(f"result  {name}: {format_quantity(a, unit)} → {format_quantity(b, unit)}")
    return "\n".join(lines)
