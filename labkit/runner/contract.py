"""What a notebook must be before it is run: papermill itself would only warn, and run at full scale."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from labkit.errors import NotebookError, UsageError

__all__ = ["DEADLINES_S", "checked_folder", "checked_parameters", "checked_profile", "output_names", "read_notebook"]

# By profile, for a whole notebook: twice and more what a quick one with vLLM takes on a quiet machine.
DEADLINES_S: Mapping[str, float] = {"quick": 360.0, "full": 3600.0}


def checked_profile(profile: str) -> str:
    if profile not in DEADLINES_S:
        raise UsageError(f"profile must be {' or '.join(DEADLINES_S)}; got {profile!r}.{_meant(profile, DEADLINES_S)}")
    return profile


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook's JSON, if it is one that can be run unattended."""
    name = str(path)
    if not path.is_file():
        raise NotebookError(
            f"{path} does not exist. Name a notebook, for example notebooks/00_start_here.ipynb.", notebook=name
        )
    try:
        notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotebookError(f"{path} is not a readable notebook ({error}).", notebook=name) from error
    kernel = ((notebook.get("metadata") or {}).get("kernelspec") or {}).get("name")
    if kernel != "python3":
        came = f"names the kernel {kernel}" if kernel else "names no kernel"
        raise NotebookError(f"{path} {came}. Add metadata.kernelspec with the name python3.", notebook=name)
    tagged = (c for c in cells if "parameters" in (c.get("metadata") or {}).get("tags", ()))
    if not any(cell.get("cell_type") == "code" for cell in tagged):
        raise NotebookError(
            f"{path} has no code cell tagged `parameters`, so no profile can be set and it would run at full scale. "
            'Tag the cell that holds profile = "full".',
            notebook=name,
        )
    return notebook


def checked_parameters(path: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse names that the notebook's parameters cell does not define."""
    import papermill

    known = papermill.inspect_notebook(str(path).replace("{", "{{").replace("}", "}}"))  # it formats paths
    for name in parameters:
        if name not in known:
            raise UsageError(
                f"{path} has no parameter {name!r}; it has {', '.join(sorted(known)) or 'none'}.{_meant(name, known)}"
            )


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def checked_folder(out: Path, paths: Collection[Path]) -> Path:
    """The folder for what is written: made if need be, and never one that holds the notebooks themselves."""
    if any(path.resolve().parent == out.resolve() for path in paths):
        raise UsageError(f"The notebooks themselves lie in {out}; their executed copies must go to another folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be used as a folder: {error.strerror}. Name another with --out.") from error
    return out


def output_names(paths: Collection[Path]) -> dict[Path, str]:
    """A file name for each executed notebook; those whose names are the same are told apart by their folders."""
    names: dict[Path, str] = {}
    for path in paths:
        twins = [other for other in paths if other.name == path.name]
        name = path.name if len(twins) == 1 else f"{path.resolve().parent.name}-{path.name}"
        if name in names.values():
            raise UsageError(
                f"{path} is named twice, or shares folder and file name with another. Run them one by one."
            )
        names[path] = name
    return names
