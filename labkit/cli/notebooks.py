"""``labkit run``, ``claims``, ``check``, ``diff`` and ``exercises``."""

from __future__ import annotations

import ast
import json
import sys
import time
from argparse import Namespace
from typing import Any

from labkit.cli.place import lab_root
from labkit.units import format_quantity, format_seconds

__all__ = ["check", "claims", "diff", "exercises", "run"]

VERDICT_MARKS = {"holds": "✓", "does not hold here": "✗", "not measurable here": "–"}


def run(options: Namespace) -> int:
    """Execute notebooks; 0 when every cell and widget succeeded."""
    from labkit import runner

    report = runner.run_notebooks(
        options.notebooks,
        profile=options.profile,
        out=options.out,
        parameters={name: _value(text) for name, text in options.parameter},
        deadline_s=options.deadline,
        on_progress=_progress_line(),
    )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    for notebook in report.notebooks:
        mark = "ok" if notebook.ok else "FAILED"
        print(f"{mark:>6}  {format_seconds(notebook.duration_s):>10}  {notebook.out}")
        if not notebook.ok:
            print(notebook.error, file=sys.stderr)
    print(f"{len(report.claims)} claims in {options.out / 'claims.json'}")
    return 0 if report.ok else 1


def _value(text: str) -> Any:
    """A parameter from the command line: a Python literal where it is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _progress_line() -> Any:
    """One line on a terminal that is drawn over; elsewhere a line whenever the message changes."""
    last = {"message": "", "at": 0.0}

    def on_progress(fraction: float, message: str) -> None:
        if sys.stderr.isatty():
            if time.monotonic() - last["at"] > 0.1:  # type: ignore[operator]
                last["at"] = time.monotonic()
                print(f"\r\x1b[K{fraction:4.0%}  {message}", end="", file=sys.stderr, flush=True)
        elif message != last["message"]:
            last["message"] = message
            print(f"{fraction:4.0%}  {message}", file=sys.stderr, flush=True)

    return on_progress


def claims(options: Namespace) -> int:
    """The ledger: the latest verdict on each claim, on this machine's records."""
    from labkit.records import Records

    with Records() as records:
        frame = records.claims()
    if len(frame):
        frame = (
            frame.sort_values("decided_at", na_position="first").groupby("id", as_index=False).tail(1).sort_values("id")
        )
    rows = json.loads(frame.to_json(orient="records", date_format="iso"))
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    if not rows:
        print("No claim has been decided yet. Run a lesson: its verdicts are kept here.")
    for row in rows:
        figure = "" if row["figure"] is None else format_quantity(row["figure"], row.get("unit") or "")
        print(f"{VERDICT_MARKS.get(row['verdict'], '?')} {row['id']}  {row['statement']}")
        told = f"{row['verdict'] or 'not decided'}  {figure}  (rule: {row['rule']})  {row.get('reason') or ''}"
        print(f"    {told}".rstrip())
    return 0


def check(options: Namespace) -> int:
    """Check one notebook: 0 all passed, 1 some failed, 2 could not be checked."""
    from labkit import exercises as room

    report = room.check_notebook(options.path)
    if options.json:
        print(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
        return report.exit_code
    for task in report.tasks:
        print(f"{task.status:>13}  {task.task}")
        for line in (task.message, f"hint: {task.hint}" if task.hint else ""):
            if line:
                print("               " + line.replace("\n", "\n               "))
    print(f"{report.passed} passed, {report.failed} failed, {report.not_verified} not verified")
    return report.exit_code


def diff(options: Namespace) -> int:
    """The learner's notebook beside the solution."""
    from labkit import exercises as room

    print(room.diff(options.path, asked=options.show))
    return 0


def exercises(options: Namespace) -> int:
    """Generate exercises/ from solutions/, or say what is stale."""
    from labkit import exercises as room

    changed = room.build(lab_root(options), check=options.check)
    for path in changed:
        print(f"{'stale' if options.check else 'written'}: {path}")
    if not changed:
        print("exercises/ is current.")
    return 1 if options.check and changed else 0
