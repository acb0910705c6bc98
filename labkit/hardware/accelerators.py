"""What NVML shows: the NVIDIA devices that this process may use, and why there are none. It loads no torch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from labkit.hardware.interconnect import Link, nvlink_bytes_per_s, pcie_bytes_per_s

__all__ = ["Accelerator", "accelerator_reason", "find_accelerators"]

MAX_NVLINKS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One device. ``index`` is the one torch uses (``cuda:0``); bytes are what the device has, free or not."""

    index: int
    name: str
    memory_bytes: int
    compute_capability: tuple[int, int]
    uuid: str
    driver: str
    links: tuple[Link, ...] = ()


def find_accelerators(
    nvml: Any = None, *, env: Mapping[str, str] | None = None, torch_version: str | None = None
) -> tuple[tuple[Accelerator, ...], str]:
    """(devices, reason): the reason says why there are none, and is empty when there are.

    ``nvml`` stands in for the module pynvml, ``env`` for the environment (CUDA_VISIBLE_DEVICES), ``torch_version`` for
    the version of the torch that is installed: a CPU build cannot use a device, so then there is none.
    """
    env = os.environ if env is None else env
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return (), "pynvml (the package nvidia-ml-py) is not installed. Run `make setup`."
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), f"no NVIDIA driver answers here ({error})"
    try:
        present = int(nvml.nvmlDeviceGetCount())
        wanted = env.get("CUDA_VISIBLE_DEVICES")
        handles = _handles(nvml, present, wanted)
        found = tuple(_accelerator(nvml, index, handle) for index, handle in enumerate(handles))
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver is here but would not describe its devices ({error})"
    finally:
        nvml.nvmlShutdown()
    if not present:
        return (), "the NVIDIA driver is here, but no device"
    if not found:
        return (), f"{present} NVIDIA device(s) are here, but CUDA_VISIBLE_DEVICES={wanted!r} hides them"
    version = _torch_version() if torch_version is None else torch_version
    if version.endswith("+cpu"):
        names = ", ".join(accelerator.name for accelerator in found)
        return (), f"{names} is here, but torch {version} is its CPU build. Run `make setup ACCELERATOR=gpu`."
    return found, ""


def accelerator_reason(nvml: Any = None, *, env: Mapping[str, str] | None = None) -> str:
    """Why this machine has no accelerator that the lab can use, in one line; empty when it has."""
    return find_accelerators(nvml, env=env)[1]


def _handles(nvml: Any, present: int, visible: str | None) -> list[Any]:
    """The devices in CUDA's order: CUDA_VISIBLE_DEVICES picks by index or uuid, and ends at the first unknown one."""
    every = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(present)]
    if visible is None:
        return every
    chosen = []
    for entry in filter(None, (part.strip() for part in visible.split(","))):
        if entry.isdigit() and int(entry) < present:
            chosen.append(every[int(entry)])
        elif entry.startswith("MIG-"):
            chosen.append(nvml.nvmlDeviceGetHandleByUUID(entry))
        else:  # a uuid may be shortened as long as it is unique
            same = [handle for handle in every if _string(nvml.nvmlDeviceGetUUID(handle)).startswith(entry)]
            if entry.isdigit() or len(same) != 1:
                break
            chosen += same
    return chosen


def _accelerator(nvml: Any, index: int, handle: Any) -> Accelerator:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Accelerator(
        index=index,
        name=_string(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        compute_capability=(int(major), int(minor)),
        uuid=_string(nvml.nvmlDeviceGetUUID(handle)),
        driver=_string(nvml.nvmlSystemGetDriverVersion()),
        links=(*_nvlinks(nvml, handle), *_pcie(nvml, handle)),
    )


def _nvlinks(nvml: Any, handle: Any) -> tuple[Link, ...]:
    """All active NVLinks of a device as one link: a collective uses them together."""
    active = 0
    version = None
    for number in range(getattr(nvml, "NVML_NVLINK_MAX_LINKS", MAX_NVLINKS)):
        if _ask(nvml, nvml.nvmlDeviceGetNvLinkState, handle, number):
            active += 1
            version = version or _ask(nvml, nvml.nvmlDeviceGetNvLinkVersion, handle, number)
    if not active:
        return ()
    each = nvlink_bytes_per_s(version)
    return (Link(kind="nvlink", name=f"{active} NVLinks", bandwidth_bytes_per_s=each and active * each),)


def _pcie(nvml: Any, handle: Any) -> tuple[Link, ...]:
    """By the highest generation and width of device and slot: an idle device lowers its current ones to save power."""
    generation = _ask(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle)
    width = _ask(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle)
    if not generation or not width:
        return ()
    name = f"PCIe {generation} x{width}"
    return (Link(kind="pcie", name=name, bandwidth_bytes_per_s=pcie_bytes_per_s(generation, width)),)


def _ask(nvml: Any, question: Callable[..., Any], *args: Any) -> int | None:
    """An answer, or None where this device or driver has none (NVLink on a card without it, PCIe on a MIG slice)."""
    try:
        return int(question(*args))
    except nvml.NVMLError:
        return None


def _string(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text  # NVML gave bytes before version 12


def _torch_version() -> str:
    try:
        return metadata.version("torch")  # the installed package's, so that torch itself is not loaded
    except metadata.PackageNotFoundError:
        return ""
