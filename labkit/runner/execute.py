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
from labkit.launch import OwnedProcess
from labkit.measure import OnProgress
from labkit.runner.contract import DEADLINES_S, checked_parameters, checked_profile, output_names, read_notebook
from labkit.runner.executed import cells_done, failure, unfinished_cell, widget_failures
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
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    limit_s = DEADLINES_S[profile] if deadline_s is None else deadline_s
    reports: list[NotebookReport] = []
    claims: list[dict[str, Any]] = []
    for index, path in enumerate(notebooks):

        def tell(fraction: float, message: str, index: int = index, path: Path = path) -> None:
            if on_progress:
                on_progress((index + fraction) / len(notebooks), f"{path.name}: {message}")

        report, decided = _one(path, folder / names[path], wanted, limit_s, tell)
        reports.append(report)
        claims += decided
        write_claims(folder, claims)
    if on_progress:
        on_progress(1.0, f"{len(notebooks)} notebooks")
    return RunReport(notebooks=tuple(reports), claims=tuple(claims))


def _one(
    path: Path, out: Path, parameters: Mapping[str, Any], deadline_s: float, tell: OnProgress
) -> tuple[NotebookReport, list[dict[str, Any]]]:
    """One notebook in a process of its own, whose guard ends it with its kernel and all that the kernel started."""
    group = secrets.token_hex(8)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="labkit-run-") as name:
        scratch = Path(name)
        told, widgets = scratch / "error.json", scratch / "widgets.jsonl"
        spec = {"path": str(path.resolve()), "out": str(out.resolve()), "error": str(told)}
        (scratch / "spec.json").write_text(json.dumps({**spec, "parameters": dict(parameters)}))
        environment = {
            "LABKIT_HEADLESS": "1",
            "LABKIT_RUN_GROUP": group,
            "LABKIT_WIDGET_FAILURES": str(widgets),
            "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, whatever else is installed
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
    cell = unfinished_cell(out) if error else None
    if error:
        error = f"{path.name}, cell {cell}: {error}" if cell is not None else f"{path.name}: {error}"
    duration_s = time.monotonic() - started
    report = NotebookReport(path=path, out=out, duration_s=duration_s, error=error, failing_cell=cell)
    claims = claims_of(group)
    missing = [claim["id"] for claim in claims if not claim["verdict"]]
    if missing and report.ok:
        report = replace(report, error=f"{path.name}: claims were fixed and never decided: {', '.join(missing)}")
    return report, undecided(claims, report)


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
