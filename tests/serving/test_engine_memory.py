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
    # Each round asks for a little more than the last, which glibc takes from the system anew, whatever else lies in the
    # heap. Tensors of one size stayed now and then without the setting as well.
    faults = """
import resource, torch
from labkit.serving.engine.memory import keep_freed_memory

def count():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for rows in range(1500, 2000, 10):
        x = torch.empty(rows, 1000)
        kept = [torch.ones_like(x) for _ in range(4)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = count()
assert keep_freed_memory()
count()
print(returned, count())
"""
    counted = subprocess.run([sys.executable, "-c", faults], capture_output=True, text=True, check=True).stdout
    returned, kept = map(int, counted.split())
    assert returned >= 200  # of huge pages there are 512 times fewer
    assert kept < returned / 20


def test_a_system_without_glibc_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
