"""The processor: its model, the features that decide how fast it multiplies, its last cache, its usable cores."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Collection
from pathlib import Path

from labkit.hardware.cgroups import Limit, cpu_limits, memory_limits

__all__ = ["cpp_compiler", "cpu_features", "cpu_model", "last_level_cache_bytes", "usable_cores", "usable_memory"]

# Only what changes the choice of a matmul kernel: vector widths, 16-bit and 8-bit arithmetic, matrix units.
SPEED_FEATURES = re.compile(
    r"avx|avx2|avx512f|avx512_bf16|avx512_fp16|avx512_vnni|avx_vnni|amx_bf16|amx_fp16|amx_int8|amx_tile|f16c|fma"
    r"|asimd|asimdhp|asimddp|bf16|i8mm|sve|sve2|sme"
)
DEFAULT_CACHE_BYTES = 32 << 20  # where nothing tells; larger than most, so that "beyond the cache" stays true


def cpp_compiler() -> str:
    """What compiles C++ for this processor: ``CXX``, else g++; whether it is installed is not looked at."""
    return os.environ.get("CXX", "g++")


def cpu_model(root: Path = Path("/")) -> str:
    """As the maker calls it; the architecture where the kernel does not say."""
    told = _cpuinfo(root)
    name = told.get("model name") or told.get("cpu model") or told.get("hardware") or ""
    if not name and platform.system() == "Darwin":  # no /proc there
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    if not name and "cpu implementer" in told:  # ARM servers give numbers
        name = f"ARM implementer {told['cpu implementer']} part {told.get('cpu part', '?')}"
    return " ".join((name or platform.processor() or platform.machine() or "unknown").split())


def cpu_features(root: Path = Path("/")) -> tuple[str, ...]:
    """Those of ``SPEED_FEATURES`` that the kernel lists, sorted."""
    told = _cpuinfo(root)
    listed = set((told.get("flags") or told.get("features") or "").split())
    return tuple(sorted(filter(SPEED_FEATURES.fullmatch, listed)))


def last_level_cache_bytes(root: Path = Path("/")) -> int:
    """Size of the largest cache of core 0. A virtual machine shows its host's, of which it may have only a share."""
    sizes = []
    for file in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KMG]?)", file.read_text().strip())
        if match:
            sizes.append(int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]])
    return max(sizes, default=0) or DEFAULT_CACHE_BYTES


def usable_cores(root: Path = Path("/"), *, affinity: Collection[int] | None = None, count: int | None = None) -> Limit:
    """Whole cores that this process may keep busy, at least 1: of what exists, affinity and control groups the least.

    ``affinity`` and ``count`` stand in for what the system says, in tests.
    """
    limits = [Limit(amount=count or os.cpu_count() or 1, source="every core of the machine")]
    if affinity is None and hasattr(os, "sched_getaffinity"):
        affinity = os.sched_getaffinity(0)
    if affinity is not None:
        limits.append(Limit(amount=len(affinity), source="processor affinity"))
    limits += cpu_limits(root)
    least = min(limits, key=lambda limit: limit.amount)  # the first of equals: what exists is no limit
    # A quota of 1.5 cores is one busy thread and a half: a second thread would be stopped half of the time.
    return Limit(amount=max(1, int(least.amount)), source=least.source)


def usable_memory(root: Path = Path("/"), *, physical: int | None = None) -> Limit:
    """Bytes of memory that this process may use before it is killed for it."""
    limits = [Limit(amount=physical or _physical_memory(root), source="physical memory")]
    limits += memory_limits(root)
    least = min(limits, key=lambda limit: limit.amount)
    return Limit(amount=int(least.amount), source=least.source)


def _physical_memory(root: Path) -> int:
    try:
        match = re.search(r"^MemTotal:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    if match:
        return int(match[1]) << 10
    import psutil

    return int(psutil.virtual_memory().total)


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo, names in small letters."""
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return {}
    told: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            told.setdefault(name.strip().lower(), value.strip())
    return told
