"""What a lesson or a step needs, and what of it a machine lacks: a pure function of what is attached and installed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.hardware import Machine
from labkit.lessons.names import choices
from labkit.units import GIB

if TYPE_CHECKING:
    from labkit.lessons.info import LessonInfo

__all__ = ["Needs", "check_need", "missing_here"]

WHOLE = "the whole lesson"
# A token of a step's needs -> how it is written. N is a whole number.
TOKENS = {
    "gloo": "gloo",
    "nccl": "nccl",
    "cuda": "cuda or cuda:8.9 (the least compute capability)",
    "vllm": "vllm",
    "ray": "ray",
    "network": "network",
    "ranks": "ranks:N",
    "cores": "cores:N",
    "memory_gib": "memory_gib:N",
    "accelerators": "accelerators:N",
    "package": "package:NAME",
}
_NUMBERED = {"ranks", "cores", "memory_gib", "accelerators"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the whole lesson needs; packages: names as they are installed by."""

    cores: int = 1
    memory_gib: float = 1
    packages: tuple[str, ...] = ()
    accelerator: bool = False


def check_need(token: str) -> str:
    """What is wrong with a token, or nothing."""
    name, colon, value = token.partition(":")
    if name not in TOKENS:
        return f"nothing is known by that name; {choices(name, TOKENS)}"
    if name in _NUMBERED:
        fits = re.fullmatch(r"[1-9]\d*", value) is not None
    elif name == "cuda":
        fits = re.fullmatch(r"\d+\.\d+", value) is not None or not colon
    elif name == "package":
        fits = bool(value)
    else:
        fits = not colon
    return "" if fits else f"{token!r} must be written {TOKENS[name]}"


def missing_here(
    lesson: LessonInfo, machine: Machine, installed: Mapping[str, str], *, network: bool = False
) -> tuple[tuple[str, str], ...]:
    """(step, reason) for each part that this machine cannot show; step is WHOLE where the lesson itself does.

    installed: normalised distribution name -> version; network: whether other machines may be reached.
    """
    needs = lesson.needs
    whole = [
        f"cores:{needs.cores}",
        f"memory_gib:{needs.memory_gib:g}",
        *(f"package:{name}" for name in needs.packages),
    ]
    whole += ["accelerators:1"] if needs.accelerator else []
    lost = [(WHOLE, reason) for need in whole if (reason := _lacks(need, machine, installed, network))]
    for step in lesson.steps:
        lost += [(step.id, reason) for need in step.needs if (reason := _lacks(need, machine, installed, network))]
    return tuple(lost)


def _lacks(need: str, machine: Machine, installed: Mapping[str, str], network: bool) -> str:
    """Why a need is not met here; empty when it is."""
    name, _, value = need.partition(":")
    devices = len(machine.accelerators)
    if name == "network":
        return "" if network else "needs a network beyond this machine, and the lab uses none unless told to"
    if name in ("gloo", "vllm", "ray", "package"):
        package = {"gloo": "torch"}.get(name, value or name)
        known = re.sub(r"[-_.]+", "-", package).lower() in installed
        return "" if known else f"needs the package {package}, which is not installed"
    if name == "nccl":
        return "" if machine.backend == "nccl" else f"needs two accelerators for NCCL; {_has(devices, 'accelerator')}"
    if name == "cuda":
        if not devices:
            return f"needs an NVIDIA accelerator; {_has(0, 'accelerator')}"
        wanted = tuple(int(part) for part in value.split(".")) if value else (0, 0)
        best = max(device.compute_capability for device in machine.accelerators)
        told = f"needs compute capability {value}; the best here is {best[0]}.{best[1]}"
        return "" if best >= wanted else told
    amount = float(value)
    if name == "memory_gib":
        here = machine.memory_bytes / GIB
        # The kernel and the firmware keep a few per cent of what is on the label.
        return "" if here >= 0.95 * amount else f"needs {amount:g} GiB of memory; {_has(round(here, 1), 'GiB', '')}"
    here, what = {
        "ranks": (machine.num_ranks_hint, "rank"),
        "cores": (machine.num_cores, "core"),
        "accelerators": (devices, "accelerator"),
    }[name]
    return "" if here >= amount else f"needs {amount:g} {what}{'s' * (amount != 1)}; {_has(here, what)}"


def _has(amount: float, what: str, plural: str = "s") -> str:
    verb = "has room for" if what == "rank" else "has"
    return f"this machine {verb} {amount:g} {what}{plural if amount != 1 else ''}" if amount else "none is here"
