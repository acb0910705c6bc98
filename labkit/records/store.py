"""Records: the one file of every run on this machine, what starts a run and reads runs back."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from labkit import hardware
from labkit.errors import NetworkHomeError, UsageError
from labkit.hardware import Machine, filesystem_type, is_network_filesystem, lab_home
from labkit.records import hygiene, schema
from labkit.records.code import fingerprint
from labkit.records.database import Database
from labkit.records.diff import RunDiff, diff_runs
from labkit.records.frames import frame_of
from labkit.records.plain import to_json
from labkit.records.run import Run

if TYPE_CHECKING:
    import pandas

__all__ = ["Records"]


class Records:
    """path: default ``lab_home()/records.sqlite``. Kernels, threads and forked children may use one file at once.

    Raises NetworkHomeError, NewerSchemaError, TornRecordsError, LockedRecordsError (held for longer than
    ``busy_timeout_s``) or NoSpaceError; in each case what the file holds is untouched.
    """

    schema_version = schema.VERSION

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        busy_timeout_s: float = 30.0,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.path = Path(path) if path is not None else lab_home() / "records.sqlite"
        self.clock, self._new_id = clock, new_id
        if self.path.is_dir():
            raise UsageError(f"The records are a file; {self.path} is a folder.")
        _need_folder(self.path)
        if is_network_filesystem(self.path):
            raise NetworkHomeError(
                f"{self.path} would lie on {filesystem_type(self.path)}, a network filesystem, where SQLite's "
                "locks cannot be trusted. Set LABKIT_HOME to a folder on a local disk."
            )
        self.database = Database(self.path, clock=clock, busy_timeout_s=busy_timeout_s)
        self.database.open()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Records({str(self.path)!r})"

    def close(self) -> None:
        """Let go of the file. Using the records again opens it again."""
        self.database.close()

    def start_run(
        self,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        machine: Machine | None = None,
        code: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        seed: int | None = None,
        environment: Mapping[str, Any] | None = None,
    ) -> Run:
        """Begin a run. config: plain data. machine, code, environment: taken from here when left out.

        seed: the config's when left out. data: what was read and in which version, as `data_version` gives it.
        """
        if not name.strip():
            raise UsageError("A run needs a name: the notebook's, such as '00_start_here'.")
        here = machine if machine is not None else hardware.machine()
        came_from = to_json(dict(code) if code is not None else fingerprint(), "A run's code")
        told, group = to_json(dict(config or {}), "A run's config"), os.environ.get("LABKIT_RUN_GROUP", "")
        read = to_json(dict(data or {}), "A run's data")
        seeded = to_json((config or {}).get("seed") if seed is None else seed, "A run's seed")
        around = to_json(dict(environment) if environment is not None else hygiene.environment(), "An environment")
        around_id = hygiene.environment_id(around)
        run_id = self._new_id()
        with self.database.transaction() as write:
            write.execute("INSERT OR IGNORE INTO machines VALUES (?, ?)", (here.id, to_json(here.to_dict(), "machine")))
            write.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (around_id, around))
            write.execute(
                "INSERT INTO runs (id, name, started_at, status, config, code, machine_id, run_group, seed, data, "
                "environment_id) VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?)",
                (run_id, name, self.clock(), told, came_from, here.id, group, seeded, read, around_id),
            )
        return Run(self.database, run_id, name, clock=self.clock)

    def runs(self) -> pandas.DataFrame:
        """A row a run: id, name, started_at, ended_at, status, machine_id, run_group, environment_id; config, code,
        notes, data (dicts); seed."""
        return frame_of(*self.database.read("SELECT * FROM runs ORDER BY started_at, rowid"))

    def environments(self) -> dict[str, dict[str, Any]]:
        """id -> python, platform, packages and variables, as `hygiene.environment` told them."""
        _, rows = self.database.read("SELECT id, data FROM environments")
        return {one: json.loads(told) for one, told in rows}

    def machines(self) -> dict[str, dict[str, Any]]:
        """id -> the machine as a dict."""
        _, rows = self.database.read("SELECT id, data FROM machines")
        return {one: json.loads(told) for one, told in rows}

    def diff(self, a: str, b: str) -> RunDiff:
        """What tells two runs apart. Each is an id, the beginning of one, a name, or NAME~1 for the one before."""
        return diff_runs(self, a, b)

    def measurements(self) -> pandas.DataFrame:
        """A row a figure: run_id, run, name, kind, value, unit, low, high, data (the figure as a dict), logged_at."""
        return frame_of(
            *self.database.read(
                "SELECT m.*, r.name AS run, r.machine_id FROM measurements m JOIN runs r ON r.id = m.run_id "
                "ORDER BY m.rowid"
            )
        )

    def claims(self) -> pandas.DataFrame:
        """A row a claim and run, in the order in which they were fixed, with rule, figure, verdict and reason."""
        return frame_of(
            *self.database.read(
                "SELECT c.*, r.machine_id, r.run_group FROM claims c JOIN runs r ON r.id = c.run_id ORDER BY c.rowid"
            )
        )

    def predictions(self) -> pandas.DataFrame:
        """A row a prediction and run; hit is missing until it is scored."""
        return frame_of(
            *self.database.read(
                "SELECT p.*, r.name AS run FROM predictions p JOIN runs r ON r.id = p.run_id ORDER BY p.rowid"
            )
        )

    def backup(self, path: str | Path) -> Path:
        """A consistent copy in a new file, also while others write: whole, or not there. Returns its path."""
        target = Path(path)
        _need_folder(target)
        if target.exists():
            raise UsageError(f"{target} exists already, and a backup is never written over it. Name another file.")
        self.database.copy_to(target)
        return target


def _need_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} of {path.name} does not exist. Make it, or name another.")
