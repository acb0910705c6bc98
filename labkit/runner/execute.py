"""Notebooks run unattended: as a test, or by somebody who wants the figures."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.errors import UsageError
from labkit.launch import OwnedProcess, thread_waiting
from labkit.measure import OnProgress
from labkit.runner.contract import (
    DEADLINES_S,
    checked_folder,
    checked_parameters,
    checked_profile,
    output_names,
    read_notebook,
)
from labkit.runner.executed import cells_done, failure, mark_failure, unfinished_cell, widget_failures
from labkit.runner.ledger import claims_of, undecided, write_claims
from labkit.runner.report import NotebookReport, RunReport

__all__ = ["run_notebooks"]

TICK_S = 0.25


def run_notebooks(
    paths: Sequence[str | Path],
    *,
    profile: str = "quick",
    out: str | Path,
    parameters: Mapping[str, Any] | None = None,
    deadline_s: float | None = None,
    on_progress: OnProgress | None = None,
) -> RunReport:
    """Execute notebooks one after the other; write the executed copies and claims.json into ``out``.

    deadline_s: for each whole notebook (default: by profile). Everything is checked before anything runs: UsageError
    and NotebookError for what cannot be run. A notebook that fails is reported, and the next one runs.
    """
    wanted = {"profile": checked_profile(profile), **(parameters or {})}
    notebooks = [Path(path) for path in paths]
    if not notebooks:
        raise UsageError("No notebook was named. Name at least one, for example notebooks/00_start_here.ipynb.")
    for path in notebooks:
        read_notebook(path)
        checked_parameters(path, wanted)
    if deadline_s is not None and not deadline_s > 0:
        raise UsageError(f"deadline_s must be positive; got {deadline_s}.")
    names = output_names(notebooks)
    folder = checked_folder(Path(out), notebooks)
    limit_s = DEADLINES_S[profile] if deadline_s is None else deadline_s
    reports: list[NotebookReport] = []
    claims: list[dict[str, Any]] = []
    for index, path in enumerate(notebooks):

        def tell(fraction: float, message: str, index: int = index, path: Path = path) -> None:
            if on_progress:
                on_progress((index + fraction) / len(notebooks), f"{path.name}: {message}")

        group = secrets.token_hex(8)
        try:
            report = _one(path, folder / names[path], wanted, limit_s, group, tell)
        except KeyboardInterrupt:
            write_claims(folder, claims + undecided(claims_of(group), "the run was interrupted"))
            raise
        decided = claims_of(group)
        missing = [claim["id"] for claim in decided if not claim["verdict"]]
        if missing and report.ok:
            report = replace(report, error=f"{path.name}: claims were fixed and never decided: {', '.join(missing)}")
        reports.append(report)
        where = f" in cell {report.failing_cell}" if report.failing_cell is not None else ""
        claims += undecided(decided, f"the notebook failed{where}")
        write_claims(folder, claims)
    if on_progress:
        on_progress(1.0, f"{len(notebooks)} notebooks")
    return RunReport(notebooks=tuple(reports), claims=tuple(claims))


def _one(
    path: Path, out: Path, parameters: Mapping[str, Any], deadline_s: float, group: str, tell: OnProgress
) -> NotebookReport:
    """One notebook in a process of its own, whose guard ends it with its kernel and all that the kernel started."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="labkit-run-") as name:
        scratch = Path(name)
        told, widgets = scratch / "error.json", scratch / "widgets.jsonl"
        spec = {"path": str(path.resolve()), "out": str(out.resolve()), "error": str(told)}
        (scratch / "spec.json").write_text(json.dumps({**spec, "parameters": dict(parameters)}))
        environment = {
            **thread_waiting(),
            "LABKIT_HEADLESS": "1",
            "LABKIT_RUN_GROUP": group,
            "LABKIT_WIDGET_FAILURES": str(widgets),
            "JUPYTER_PATH": str(_kernelspec(scratch)),
            # Pictures go into the notebook, whatever backend the caller's own environment asks for.
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        out.unlink(missing_ok=True)
        with OwnedProcess(
            [sys.executable, "-m", "labkit.runner.worker", str(scratch / "spec.json")],
            name=f"run {path.name}",
            kind="notebook",
            env=environment,
            log=scratch / "log",
        ) as process:
            timed_out = _follow(process, out, started + deadline_s, tell)
            tail = process.log_tail(12)
        error = failure(told, process.guard.returncode, timed_out, deadline_s, tail) or widget_failures(widgets)
    if not out.exists():  # it failed before papermill wrote anything: keep what was to be run
        out.write_bytes(path.read_bytes())
    done, total = cells_done(out)
    if not error and done < total:
        error = "the cell ended the notebook (sys.exit?); the cells after it never ran."
    cell = unfinished_cell(out) if error else None
    if error:
        mark_failure(out, cell, error)
        error = f"{path.name}, cell {cell}: {error}" if cell is not None else f"{path.name}: {error}"
    duration_s = time.monotonic() - started
    return NotebookReport(path=path, out=out, duration_s=duration_s, error=error, failing_cell=cell)


def _kernelspec(folder: Path) -> Path:
    """A place of its own for the kernel python3: this very Python, whatever kernels a user has installed."""
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3 (ipykernel)", "language": "python"}))
    return folder


def _follow(process: OwnedProcess, out: Path, until: float, tell: OnProgress) -> bool:
    """Until the notebook has ended, or True when its time is up."""
    seen = 0
    while process.poll() is None:
        if time.monotonic() > until:
            return True
        time.sleep(TICK_S)
        if out.exists() and out.stat().st_mtime_ns != seen:
            seen = out.stat().st_mtime_ns
            done, total = cells_done(out)
            if total:
                tell(done / total, f"cell {done} of {total}")
    return False
