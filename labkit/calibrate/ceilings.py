"""The ceilings of a machine: what it can do at best, measured here, kept with the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.calibrate.bandwidth import measure_bandwidth, measure_disk
from labkit.calibrate.collective import measure_all_reduce
from labkit.calibrate.matmul import measure_matmul
from labkit.errors import LabError, NotMeasurableError, UsageError
from labkit.hardware import Machine, lab_home, machine, model_dtype, supported_dtypes
from labkit.measure import Figure, Measured, OnProgress, figure_from_dict
from labkit.records import Run, write_durably
from labkit.units import MIB

__all__ = ["Ceilings", "calibrate", "load", "save"]

# Matrix sizes and repeats. On a GPU a matmul of 1,024 is over before it has filled the device.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"cpu": (1024, 2048), "cuda": (4096, 8192), "repeats": 5, "disk_bytes": 128 * MIB, "disk_repeats": 3},
    "full": {
        "cpu": (1024, 2048, 4096),
        "cuda": (4096, 8192, 16384),
        "repeats": 15,
        "disk_bytes": 512 * MIB,
        "disk_repeats": 7,
    },
}
_DTYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}
_SMALL = 256
_ALL_REDUCE_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """matmul: FLOP/s by dtype; the rest in B/s. What could not be measured is None, and ``missing`` says why."""

    machine: Machine
    matmul: Mapping[str, Measured]
    bandwidth: Measured
    disk_write: Measured | None = None
    disk_read: Measured | None = None
    all_reduce: Measured | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def figures(self) -> tuple[Figure, ...]:
        """Everything that was measured."""
        rest = (self.bandwidth, self.disk_write, self.disk_read, self.all_reduce)
        return (*self.matmul.values(), *(figure for figure in rest if figure is not None))

    @property
    def fastest_dtype(self) -> str:
        return max(self.matmul, key=lambda dtype: self.matmul[dtype].value)

    def to_dict(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in ("bandwidth", "disk_write", "disk_read", "all_reduce")}
        return {
            "machine": self.machine.to_dict(),
            "matmul": {dtype: figure.to_dict() for dtype, figure in self.matmul.items()},
            "missing": dict(self.missing),
            **{name: figure.to_dict() if figure is not None else None for name, figure in named.items()},
        }


def calibrate(profile: str = "quick", *, run: Run | None = None, on_progress: OnProgress | None = None) -> Ceilings:
    """Measure every ceiling, keep them with the machine, and log them with ``run`` if there is one.

    profile: "quick" (about ten seconds) or "full" (about half a minute). A part that cannot be measured here is missing
    with its reason; arithmetic and memory always can.
    """
    if profile not in _SETTINGS:
        raise UsageError(f"profile must be quick or full; got {profile!r}.")
    here, settings = machine(), _SETTINGS[profile]
    tell = on_progress or (lambda fraction, message: None)
    missing: dict[str, str] = {}

    matmul: dict[str, Measured] = {}
    supported = supported_dtypes(here)
    for index, dtype in enumerate(_DTYPES[here.device]):
        if supported.get(dtype) is not True:
            missing[f"matmul {dtype}"] = str(supported.get(dtype, "unknown to this torch"))
            continue
        tell(0.1 + 0.15 * index, f"{dtype} matmul")
        slow = dtype == "bfloat16" and model_dtype(here.device) != dtype  # a product of the usual size takes seconds
        shapes = [(size, size, size) for size in ((_SMALL,) if slow else settings[here.device])]
        points = measure_matmul(dtype, shapes, repeats=settings["repeats"])
        matmul[dtype] = max((point.flops_per_s for point in points), key=lambda figure: figure.value)
    tell(0.5, "memory bandwidth")
    bandwidth = measure_bandwidth(repeats=3 * settings["repeats"])
    tell(0.6, "disk")
    disk: dict[str, Measured] = {}
    try:
        disk = measure_disk(num_bytes=settings["disk_bytes"], repeats=settings["disk_repeats"])
    except (LabError, OSError) as error:
        missing["disk"] = str(error)
    tell(0.8, "all-reduce between two processes")
    all_reduce: Measured | None = None
    try:
        points_2 = measure_all_reduce(2, [_ALL_REDUCE_BYTES], repeats=3 * settings["repeats"])
        all_reduce = points_2[0].bus_bandwidth
    except LabError as error:
        missing["all_reduce"] = str(error)
    ceilings = Ceilings(
        machine=here,
        matmul=matmul,
        bandwidth=bandwidth,
        disk_write=disk.get("write"),
        disk_read=disk.get("read"),
        all_reduce=all_reduce,
        missing=missing,
    )
    save(ceilings)
    if run is not None:
        run.log(*ceilings.figures())
    tell(1.0, "ceilings measured")
    return ceilings


def _file(machine_id: str) -> Path:
    folder = lab_home() / "machines"
    folder.mkdir(exist_ok=True)
    return folder / f"{machine_id}.json"


def save(ceilings: Ceilings) -> Path:
    """Keep the ceilings with their machine; the newest win."""
    path = _file(ceilings.machine.id)
    write_durably(path, (json.dumps(ceilings.to_dict(), indent=1) + "\n").encode())
    return path


def load(here: Machine | None = None) -> Ceilings:
    """The ceilings measured last on this machine (or on one like ``here``). NotMeasurableError where there are none."""
    wanted = here or machine()
    path = _file(wanted.id)
    try:
        told = json.loads(path.read_text())
        figures = {
            name: None if told[name] is None else figure_from_dict(told[name])
            for name in ("bandwidth", "disk_write", "disk_read", "all_reduce")
        }
        matmul = {dtype: figure_from_dict(figure) for dtype, figure in told["matmul"].items()}
        return Ceilings(machine=wanted, matmul=matmul, missing=told["missing"], **figures)  # type: ignore[arg-type]
    except FileNotFoundError:
        raise NotMeasurableError(
            "This machine's ceilings have not been measured. Run lesson 00_start_here first."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotMeasurableError(
            f"{path} cannot be read ({error}). Run lesson 00_start_here to measure again."
        ) from error
