"""Where the lab's checkout and its work copies are."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from labkit.errors import UsageError

__all__ = ["lab_root", "work_folder"]


def lab_root(options: Namespace) -> Path:
    """The checkout: ``--root``, else the nearest folder from here upwards that is one, else labkit's own."""
    if options.root is not None:
        if not (options.root / "notebooks").is_dir():
            raise UsageError(f"--root must be a checkout of the lab; {options.root} has no notebooks/ folder.")
        return Path(options.root).resolve()
    here = Path.cwd()
    candidates = [here, *here.parents, Path(__file__).resolve().parents[2]]
    for folder in candidates:
        if (folder / "notebooks").is_dir() and (folder / "labkit").is_dir():
            return folder
    raise UsageError(f"No checkout of the lab was found at {here} or above it. Go into one, or name it with --root.")


def work_folder(options: Namespace) -> Path:
    """The learner's own folder: ``--work``, else work/ in the checkout."""
    return Path(options.work).resolve() if options.work is not None else lab_root(options) / "work"
