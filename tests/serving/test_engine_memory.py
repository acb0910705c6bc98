"""malloc is told to keep what it could return; what it computes with is not touched."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from labkit.serving.engine import memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_freed_memory_is_kept_by_the_process() -> None:
    """Pages that are touched, freed and touched again are faulted in once with it, and each time without."""
    faults = """
import resource, sys, torch
from labkit.serving.engine.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
x = torch.zeros(1500, 1000)
for _ in range(5): kept = [x + 1 for _ in range(4)]; del kept
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50): kept = [x + 1 for _ in range(4)]; del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def count(mode: str) -> int:
        command = [sys.executable, "-c", faults, mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    returned = count("return")
    assert returned >= 200
    # Where a small object lies between two freed tensors, one of them needs a new place: chance, which the best of
    # three runs leaves out.
    assert min(count("keep") for _ in range(3)) < returned / 20


def test_a_system_without_glibc_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
