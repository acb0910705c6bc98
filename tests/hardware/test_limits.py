"""Cores and memory by every limit in force, on laid-out trees of /proc and /sys, and on the machine itself."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from labkit.hardware import cgroups, last_level_cache_bytes, machine, processor
from labkit.hardware.attached import Machine, examine
from labkit.units import GIB

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"
V1_MOUNTS = "\n".join(
    f"{30 + i} 23 0:{26 + i} {{root}} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}"
    for i, name in enumerate(("cpu,cpuacct", "cpuset", "memory"))
)


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


def v2(root: Path, own: str, files: dict[str, str]) -> Path:
    base = {"proc/self/cgroup": f"0::{own}", "proc/self/mountinfo": V2_MOUNT, "sys/fs/cgroup/cgroup.procs": ""}
    return lay(root, base | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def v1(root: Path, own: str, files: dict[str, str], mounted: str = "/") -> Path:
    places = f"3:cpu,cpuacct:{own}\n2:cpuset:{own}\n1:memory:{own}"
    base = {"proc/self/cgroup": places, "proc/self/mountinfo": V1_MOUNTS.format(root=mounted)}
    return lay(root, base | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def cores(root: Path, count: int = 16) -> tuple[float, str]:
    limit = processor.usable_cores(root, affinity=range(count), count=count)
    return limit.amount, limit.source


def test_version_2_quota_and_memory(tmp_path: Path) -> None:
    root = v2(tmp_path, "/job", {"job/cpu.max": "250000 100000", "job/memory.max": str(3 * GIB)})
    assert cores(root) == (2, "cgroup v2 cpu.max")  # two and a half cores keep two threads busy
    memory = processor.usable_memory(root, physical=64 * GIB)
    assert (memory.amount, memory.source) == (3 * GIB, "cgroup v2 memory.max")


def test_no_limit_is_said_as_max(tmp_path: Path) -> None:
    root = v2(tmp_path, "/job", {"job/cpu.max": "max 100000", "job/memory.max": "max"})
    assert cores(root) == (16, "every core of the machine")
    assert processor.usable_memory(root, physical=64 * GIB).source == "physical memory"


def test_the_smallest_limit_on_the_way_up_wins(tmp_path: Path) -> None:
    files = {
        "pod/cpu.max": "400000 100000",
        "pod/box/cpu.max": "800000 100000",
        "pod/memory.max": str(8 * GIB),
        "pod/box/memory.max": "max",
        "pod/box/cpuset.cpus.effective": "0-2,7",
    }
    root = v2(tmp_path, "/pod/box", files)
    assert cores(root)[0] == 4
    assert sorted(limit.amount for limit in cgroups.cpu_limits(root)) == [4, 4, 8]
    assert processor.usable_memory(root, physical=64 * GIB).amount == 8 * GIB


def test_version_1(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/docker/cpu.cfs_quota_us": "150000",
        "cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
        "cpuset/docker/cpuset.cpus": "0-7",
        "memory/docker/memory.limit_in_bytes": str(2 * GIB),
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    root = v1(tmp_path, "/docker", files)
    assert cores(root) == (1, "cgroup v1 cpu quota")
    memory = processor.usable_memory(root, physical=64 * GIB)
    assert (memory.amount, memory.source) == (2 * GIB, "cgroup v1 memory.limit_in_bytes")


def test_version_1_without_limits(tmp_path: Path) -> None:
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "memory/memory.limit_in_bytes": "9223372036854771712"}
    root = v1(tmp_path, "/", files)
    assert cores(root)[0] == 16
    assert processor.usable_memory(root, physical=64 * GIB).amount == 64 * GIB


def test_a_container_that_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    """/proc names the group as the host does (/docker/abc); the mount shows that very group."""
    root = v1(tmp_path, "/docker/abc", {"memory/memory.limit_in_bytes": str(GIB)}, mounted="/docker/abc")
    assert processor.usable_memory(root, physical=64 * GIB).amount == GIB


def test_a_hidden_mount_table_is_no_end(tmp_path: Path) -> None:
    root = lay(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(GIB)})
    assert processor.usable_memory(root, physical=64 * GIB).amount == GIB


def test_affinity_limits_cores(tmp_path: Path) -> None:
    limit = processor.usable_cores(tmp_path, affinity={0, 3}, count=8)
    assert (limit.amount, limit.source) == (2, "processor affinity")


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-3,8", {0, 1, 2, 3, 8}), ("", set()), ("5", {5}), ("0-1,x,4", {0, 1, 4}), ("\n", set())]
)
def test_the_kernels_lists_of_cpus(text: str, cpus: set[int]) -> None:
    assert cgroups.parse_cpus(text) == cpus


def test_what_is_told_of_the_processor(tmp_path: Path) -> None:
    info = "processor : 0\nmodel name : Intel(R)  Xeon\nflags : fpu avx2 amx_bf16 sse avx512f\n\nmodel name : other"
    cache = "sys/devices/system/cpu/cpu0/cache"
    root = lay(
        tmp_path,
        {
            "proc/cpuinfo": info,
            f"{cache}/index0/size": "48K",
            f"{cache}/index3/size": "105M",
            "proc/meminfo": "MemTotal: 1024 kB",
        },
    )
    assert processor.cpu_model(root) == "Intel(R) Xeon"
    assert processor.cpu_features(root) == ("amx_bf16", "avx2", "avx512f")
    assert last_level_cache_bytes(root) == 105 << 20
    assert processor.usable_memory(root).amount == 1 << 20
    assert last_level_cache_bytes(tmp_path / "nowhere") == 32 << 20


def test_this_machine_within_what_psutil_sees() -> None:
    here = machine()
    assert 1 <= here.num_cores <= (os.cpu_count() or 1)
    assert GIB // 4 <= here.memory_bytes <= psutil.virtual_memory().total
    assert here.num_ranks_hint >= 2
    assert here is machine()
    assert machine(refresh=True) == here
    assert Machine.from_dict(here.to_dict()) == here


def test_the_id_depends_on_speed_and_not_on_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lay(tmp_path, {"proc/cpuinfo": "model name : X", "proc/meminfo": "MemTotal: 16777216 kB"})
    first = examine(root)
    monkeypatch.setattr("platform.node", lambda: "another-name")
    assert examine(root).id == first.id
    assert examine(root).hostname == "another-name"
    lay(root, {"proc/cpuinfo": "model name : Y"})
    assert examine(root).id != first.id


def test_both_versions_at_once(tmp_path: Path) -> None:
    """A hybrid machine: controllers in trees of version 1, one of them in version 2's. The smallest wins over both."""
    mounts = V1_MOUNTS.format(root="/") + "\n50 23 0:50 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    files = {
        "proc/self/cgroup": "3:cpu,cpuacct:/a\n2:cpuset:/\n1:memory:/a/b\n0::/user.slice",
        "proc/self/mountinfo": mounts,
        "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "500000",
        "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/unified/user.slice/cpu.max": "300000 100000",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(GIB),
        "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": str(4 * GIB),
    }
    root = lay(tmp_path, files)
    assert cores(root) == (3, "cgroup v2 cpu.max")
    assert processor.usable_memory(root, physical=64 * GIB).amount == GIB


@pytest.mark.parametrize(
    ("place", "amount"),
    [("/docker/abc", 2 * GIB), ("/docker/abc/inner", GIB), ("/elsewhere", 2 * GIB), ("/../../docker/abc", 2 * GIB)],
)
def test_a_group_named_from_outside_is_found_or_its_top_is_read(tmp_path: Path, place: str, amount: int) -> None:
    files = {"memory/memory.limit_in_bytes": str(2 * GIB), "memory/inner/memory.limit_in_bytes": str(GIB)}
    root = v1(tmp_path, place, files, mounted="/docker/abc")
    assert processor.usable_memory(root, physical=64 * GIB).amount == amount


def test_a_neighbours_limit_is_not_ours(tmp_path: Path) -> None:
    root = v2(tmp_path, "/pod/mine", {"pod/other/cpu.max": "100000 100000", "pod/mine/cpu.max": "max 100000"})
    assert cores(root)[0] == 16


def test_half_a_core_is_one_thread(tmp_path: Path) -> None:
    assert cores(v2(tmp_path, "/job", {"job/cpu.max": "50000 100000"}))[0] == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_narrower_affinity_of_this_process_is_seen() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine(refresh=True).num_cores == 1
    finally:
        os.sched_setaffinity(0, before)
        machine(refresh=True)
