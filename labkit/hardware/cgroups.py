"""What the control groups of Linux allow this process: cores and memory, version 1, version 2 and both at once.

A limit may stand on any group between the process's own and the top: the smallest one wins.
Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labkit.hardware.filesystems import mounts

__all__ = ["Limit", "cpu_limits", "memory_limits", "parse_cpus"]

V1_CONTROLLERS = ("cpu", "cpuset", "memory")
# Version 1 says "no limit" with the largest page-aligned number it has.
UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """An amount (cores or bytes) and where it comes from, in words."""

    amount: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hierarchy:
    version: int
    controllers: frozenset[str]  # of version 1; version 2 has all of them in one tree
    top: Path
    own: Path  # the process's group: ``top`` or below it

    def groups(self) -> Iterator[Path]:
        """The process's own group, then every one that it stands in, up to the top."""
        group = self.own
        while True:
            yield group
            if group == self.top:
                return
            group = group.parent


def cpu_limits(root: Path = Path("/")) -> list[Limit]:
    """Every limit in cores: quotas may be broken (1.5), cpusets are whole. ``root`` holds ``proc`` and ``sys``."""
    found = []
    for hierarchy in _hierarchies(root):
        for group in hierarchy.groups():
            if hierarchy.version == 2:
                quota, _, period = _text(group / "cpu.max").partition(" ")
                sets = (group / "cpuset.cpus.effective", group / "cpuset.cpus")
                names = ("cgroup v2 cpu.max", "cgroup v2 cpuset")
            else:
                quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
                sets = (group / "cpuset.effective_cpus", group / "cpuset.cpus")
                names = ("cgroup v1 cpu quota", "cgroup v1 cpuset")
            if quota.isdigit() and int(quota) > 0:  # "max" in version 2, -1 in version 1: no limit
                found.append(Limit(amount=int(quota) / int(period or 100_000), source=names[0]))
            cpus = parse_cpus(next((text for text in map(_text, sets) if text), ""))
            if cpus:
                found.append(Limit(amount=len(cpus), source=names[1]))
    return found


def memory_limits(root: Path = Path("/")) -> list[Limit]:
    """Every limit in bytes. ``root`` holds ``proc`` and ``sys``."""
    found = []
    for hierarchy in _hierarchies(root):
        file = "memory.max" if hierarchy.version == 2 else "memory.limit_in_bytes"
        for group in hierarchy.groups():
            text = _text(group / file)
            if text.isdigit() and int(text) < UNLIMITED_BYTES:
                found.append(Limit(amount=int(text), source=f"cgroup v{hierarchy.version} {file}"))
    return found


def parse_cpus(text: str) -> frozenset[int]:
    """The kernel's list of CPUs: ``"0-3,8"`` -> {0, 1, 2, 3, 8}."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and (last or first).isdigit():
            cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _hierarchies(root: Path) -> Iterator[_Hierarchy]:
    """Each mounted tree of groups that the process is in, with the process's place in it."""
    places = _own_places(root)
    for version, controllers, point, mounted in _mounted(root):
        if version == 2:
            path = places.get("")
        else:
            path = next((places[name] for name in sorted(controllers) if name in places), None)
        if path is None:
            continue
        top = root / point.lstrip("/")
        own = _below(top, path, mounted)
        yield _Hierarchy(version=version, controllers=controllers, top=top, own=own)


def _below(top: Path, path: str, mounted: str) -> Path:
    """The folder of the group ``path`` where only the part ``mounted`` of the tree shows, at ``top``.

    In a container without a namespace of its own the kernel names groups as the host does (/docker/abc), while the
    mount shows that very group as its top.
    """
    place = PurePosixPath(path)
    if place.is_relative_to(mounted) and ".." not in place.parts:
        own = top / place.relative_to(mounted)
        if own.is_dir():
            return own
    return top


def _own_places(root: Path) -> dict[str, str]:
    """Controller -> the process's group in its tree; version 2 under the empty name."""
    places = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            places[controller] = path
    return places


def _mounted(root: Path) -> Iterator[tuple[int, frozenset[str], str, str]]:
    """(version, controllers, mount point, mounted part) of every tree of groups."""
    table = [mount for mount in mounts(root / "proc/self/mountinfo") if mount.kind in ("cgroup", "cgroup2")]
    for mount in table:
        if mount.kind == "cgroup2":
            yield 2, frozenset(), mount.point, mount.root
        elif controllers := frozenset(mount.options) & set(V1_CONTROLLERS):
            yield 1, controllers, mount.point, mount.root
    if not table:  # a sandbox that hides the mount table: the places where every system puts them
        yield 2, frozenset(), "/sys/fs/cgroup", "/"
        for name in V1_CONTROLLERS:
            yield 1, frozenset({name}), f"/sys/fs/cgroup/{name}", "/"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
