"""The floors hold: who may import whom, what may draw, and that public names are the ones in ``__all__``."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import labkit

GROUND = ("errors", "units", "stats")
INSTRUMENTS = ("sizes", "hardware", "measure", "launch", "records", "calibrate")  # each may import those before it
SUBJECTS = (
    "loader", "parallel", "checkpoint", "spot", "monitors", "serving", "caching", "routing", "fleet", "economics",
)  # fmt: skip
VIEWS = ("plots", "widgets")
CLASSROOM = ("runner", "lessons", "exercises", "book", "workshop", "cli", "__main__")
FLOORS = {
    **dict.fromkeys(GROUND, 0.0),
    **{name: 1 + index / 10 for index, name in enumerate(INSTRUMENTS)},
    "models": 2.0,
    **dict.fromkeys(SUBJECTS, 3.0),
    **dict.fromkeys(VIEWS, 4.0),
    **dict.fromkeys(CLASSROOM, 5.0),
}
DISPLAY = {"IPython", "ipywidgets", "matplotlib", "papermill", "anywidget"}
LABKIT = Path(labkit.__file__).parent
FILES = sorted(path for path in LABKIT.rglob("*.py") if path != LABKIT / "__init__.py")
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(LABKIT)], "labkit.") if not m.name.endswith("__main__"))
# Programs that run by themselves, in a Python without labkit: they have no public names.
PROGRAMS = {"labkit.launch.forkserver", "labkit.launch.guard"}


def imports(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """Every module that a source text imports, anywhere in it; relative imports are resolved against its package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            if module == "labkit":
                yield from (f"labkit.{alias.name}" for alias in node.names)


def breaches(here: str, names: Iterator[str]) -> list[str]:
    """What the floors forbid among the modules that a file of the room ``here`` imports."""
    found = []
    for name in names:
        top, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if top in DISPLAY and FLOORS[here] < 4:
            found.append(f"{name}: display below floor 4")
        if top != "labkit" or not other or other == here or other.startswith("__"):
            continue
        if FLOORS[other] > FLOORS[here]:
            found.append(f"{name}: upwards")
        elif here in SUBJECTS and other in SUBJECTS:
            found.append(f"{name}: subjects do not know each other")
        elif FLOORS[other] == FLOORS[here] == 0:
            found.append(f"{name}: each file of the ground stands alone")
    return found


def room(path: Path) -> str:
    return path.relative_to(LABKIT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(LABKIT)))
def test_floors(path: Path) -> None:
    here = room(path)
    assert here in FLOORS, f"labkit.{here} has no floor; the architecture knows {sorted(FLOORS)}"
    package = ("labkit", *path.relative_to(LABKIT).parts[:-1])
    assert breaches(here, imports(path.read_text(), package)) == []


@pytest.mark.parametrize(
    ("here", "package", "source"),
    [
        ("units", ("labkit",), "from . import plots"),
        ("stats", ("labkit",), "def f():\n    from labkit.records import Run"),
        ("measure", ("labkit", "measure"), "from ..launch import run"),
        ("serving", ("labkit", "serving"), "from labkit import caching"),
        ("calibrate", ("labkit", "calibrate"), "import matplotlib.pyplot"),
    ],
)
def test_a_planted_breach_is_seen(here: str, package: tuple[str, ...], source: str) -> None:
    assert breaches(here, imports(source, package))


@pytest.mark.parametrize("path", [p for p in FILES if FLOORS.get(room(p), 5) < 4], ids=lambda p: p.name)
def test_below_the_views_nothing_prints_or_registers_at_exit(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path}:{node.lineno} prints"
        assert not (isinstance(node, ast.Import) and any(alias.name == "atexit" for alias in node.names)), path


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest (ruff's RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", [m for m in MODULES if m not in PROGRAMS])
def test_exports_are_sorted_and_exist(name: str) -> None:
    module = importlib.import_module(name)
    if name in ("labkit.cli.jupyter",):
        return
    exported = getattr(module, "__all__", None)
    assert exported is not None, f"{name} has no __all__"
    assert list(exported) == sorted(exported, key=_as_ruff_sorts)
    missing = [public for public in exported if not hasattr(module, public)]
    assert not missing
    assert len(set(exported)) == len(exported)
    defined = {
        node.name
        for node in ast.parse(Path(str(module.__file__)).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    }
    assert defined <= set(exported), f"{name} defines public names that __all__ leaves out: {defined - set(exported)}"


@pytest.mark.parametrize("name", ["labkit", *(f"labkit.{room}" for room in (*GROUND, *INSTRUMENTS)), "labkit.cli"])
def test_importing_the_ground_and_the_instruments_loads_nothing_heavy(name: str) -> None:
    code = (
        f"import sys, {name}; print([m for m in ('torch', 'matplotlib', 'IPython', 'papermill') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
