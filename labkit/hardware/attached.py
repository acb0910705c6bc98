"""The Machine: what is attached, and what of it this process may use. Every experiment asks it where to run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

from labkit.hardware import accelerators as nvidia
from labkit.hardware.accelerators import Accelerator
from labkit.hardware.interconnect import Link, system_links
from labkit.hardware.processor import cpu_features, cpu_model, usable_cores, usable_memory
from labkit.units import GIB

__all__ = ["Machine", "examine", "links", "machine"]

MAX_CPU_RANKS = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Cores and memory are what control groups, affinity and the system leave to this process; sources say which."""

    id: str
    hostname: str
    system: str
    architecture: str
    python: str
    cpu_model: str
    num_cores: int
    memory_bytes: int
    cores_source: str
    memory_source: str
    accelerators: tuple[Accelerator, ...] = ()
    cpu_features: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """Where tensors go: ``"cuda"`` or ``"cpu"``."""
        return "cuda" if self.accelerators else "cpu"

    @property
    def backend(self) -> str:
        """The collectives: ``"nccl"`` needs a device for each rank, so one device alone shares itself through gloo."""
        return "nccl" if len(self.accelerators) > 1 else "gloo"

    @property
    def num_ranks_hint(self) -> int:
        """Ranks worth starting: one a device, else one a core and GiB, but at least the 2 that make a collective."""
        if self.backend == "nccl":
            return len(self.accelerators)
        return max(2, min(self.num_cores, int(self.memory_bytes // GIB), MAX_CPU_RANKS))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with what is derived."""
        told = dataclasses.asdict(self)
        told |= {"device": self.device, "backend": self.backend, "num_ranks_hint": self.num_ranks_hint}
        return told

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Machine:
        """The inverse of ``to_dict``, also after JSON has made lists of tuples."""
        known = {field.name: told[field.name] for field in dataclasses.fields(cls)}
        devices = []
        for device in told["accelerators"]:
            joined = tuple(Link(**link) for link in device["links"])
            major, minor = device["compute_capability"]
            devices.append(Accelerator(**(device | {"links": joined, "compute_capability": (major, minor)})))
        return cls(**(known | {"accelerators": tuple(devices), "cpu_features": tuple(told["cpu_features"])}))


def machine(refresh: bool = False) -> Machine:
    """This machine, examined once a process; ``refresh`` looks again (a changed affinity, a new limit)."""
    if refresh:
        _cached.cache_clear()
    return _cached()


def links() -> tuple[Link, ...]:
    """What could join ranks here: loopback, network cards, InfiniBand, then every device's NVLink and PCIe."""
    of_devices = tuple(link for device in machine().accelerators for link in device.links)
    return (*system_links(), *of_devices)


def examine(root: Path = Path("/"), *, nvml: Any = None) -> Machine:
    """Look at the machine whose ``proc`` and ``sys`` stand under ``root``, and at the devices that ``nvml`` shows."""
    cores, memory = usable_cores(root), usable_memory(root)
    found, _ = nvidia.find_accelerators(nvml)
    seen: dict[str, Any] = {
        "cpu_model": cpu_model(root),
        "num_cores": int(cores.amount),
        "memory_bytes": int(memory.amount),
        "accelerators": found,
        "cpu_features": cpu_features(root),
    }
    return Machine(
        id=_identity(seen),
        hostname=platform.node(),
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        cores_source=cores.source,
        memory_source=memory.source,
        **seen,
    )


def _identity(seen: dict[str, Any]) -> str:
    """12 hexadecimal digits of what decides speed: two machines of one kind share it, wherever they stand."""
    kind = {
        "cpu": seen["cpu_model"],
        "features": seen["cpu_features"],
        "cores": seen["num_cores"],
        "memory_gib": round(seen["memory_bytes"] / GIB),  # the kernel keeps some MiB for itself, more or less a boot
        "accelerators": [(device.name, round(device.memory_bytes / GIB)) for device in seen["accelerators"]],
    }
    return hashlib.sha256(json.dumps(kind, sort_keys=True).encode()).hexdigest()[:12]


@lru_cache(maxsize=1)
def _cached() -> Machine:
    return examine()
