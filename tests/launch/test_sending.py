"""What cannot be sent is named, on the way there and on the way back."""

from __future__ import annotations

import functools
import linecache
import subprocess
import sys
import threading
import types
from pathlib import Path

import cloudpickle
import pytest

from labkit import launch
from labkit.errors import LaunchError, RankError, UsageError
from labkit.launch.sending import cell_sources

lock_of_the_module = threading.Lock()


def uses_a_global() -> object:
    return lock_of_the_module


class Counter:
    def __init__(self, start: int) -> None:
        self.count = start

    def up(self, by: int) -> int:
        return self.count + by


def takes(first: object, *rest: object, last: object = None, **others: object) -> None:
    del first, rest, last, others


takes.__module__ = Counter.__module__ = uses_a_global.__module__ = "__main__"  # as of a cell: they travel whole


def run(fn, *args, **kwargs):
    return launch.run(fn, *args, ranks=1, backend=None, **kwargs).values[0]


def test_a_function_that_uses_what_cannot_be_sent() -> None:
    lock = threading.Lock()
    with pytest.raises(UsageError, match="the function <lambda>, because it uses lock, a lock, to other processes"):
        run(lambda: lock)
    with pytest.raises(UsageError, match="uses_a_global, because it uses lock_of_the_module, a lock"):
        run(uses_a_global)
    with pytest.raises(UsageError, match=r"launch\.run cannot send the function"):
        run(functools.partial(takes, lock))


def test_an_argument_that_cannot_be_sent() -> None:
    lock = threading.Lock()
    with pytest.raises(UsageError, match="the argument first, a lock,"):
        run(takes, lock)
    with pytest.raises(UsageError, match=r"the argument rest\[1\], a lock,"):
        run(takes, 1, 2, lock)
    with pytest.raises(UsageError, match="the argument last, a list,"):
        run(takes, 1, last=[lock])
    with pytest.raises(UsageError, match="the argument colour, a lock,"):
        run(takes, 1, colour=lock)
    with pytest.raises(UsageError, match=r"the argument args\[0\], a lock,"):
        run(dict.fromkeys, lock, 1, 2, 3)
    with pytest.raises(UsageError, match=r"takes a function; got an int\. Write launch.run\(fn, …\)"):
        run(3)


def test_a_value_that_cannot_be_sent_back() -> None:
    with pytest.raises(RankError, match="rank 0 returned a lock, which cannot be sent back"):
        run(threading.Lock)


def test_a_value_that_cannot_be_read_here() -> None:
    def make() -> object:
        module = type(sys)("only_in_the_rank")
        sys.modules["only_in_the_rank"] = module
        module.Thing = type("Thing", (), {"__module__": "only_in_the_rank"})
        module.Thing.__reduce__ = lambda self: (__import__, ("only_in_the_rank",))
        return module.Thing()

    with pytest.raises(LaunchError, match="what rank 0 returned cannot be read here: ModuleNotFoundError"):
        run(make)


def test_methods_partials_and_wrong_calls() -> None:
    assert run(Counter(2).up, 3) == 5
    assert run(functools.partial(Counter(2).up, by=4)) == 6
    assert run(len, [1, 2]) == 2
    with pytest.raises(RankError, match=r"raised TypeError: .*missing 1 required positional argument: 'first'"):
        run(takes)


def test_a_module_that_only_this_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script, or a test file collected by path: its functions travel whole, helpers among them."""
    module = types.ModuleType("collected_by_path")
    exec("def helper(): return 'whole'\ndef fn(): return helper()", module.__dict__)
    monkeypatch.setitem(sys.modules, "collected_by_path", module)
    assert run(module.fn) == "whole"
    assert "collected_by_path" not in cloudpickle.list_registry_pickle_by_value()


def test_an_error_that_cannot_say_itself() -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def fail() -> None:
        raise SilentError

    with pytest.raises(RankError, match="rank 0 of 1 raised SilentError: "):
        run(fail)


def test_the_source_of_a_cell_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As IPython keeps it: in linecache alone."""
    source = "def fail():\n    raise ValueError('in a cell')\n"
    name = "/tmp/ipykernel_1/12345.py"
    monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(True), name))
    assert cell_sources()[name] == source.splitlines(True)
    scope: dict[str, object] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), scope)
    with pytest.raises(RankError) as caught:
        run(scope["fail"])
    assert "    raise ValueError('in a cell')" in caught.value.remote_traceback


def test_a_package_installed_in_place_travels_by_name(tmp_path: Path) -> None:
    """As labkit is: not on the path of a kernel that runs in the learner's folder, yet found by every process."""
    code = """
import labkit.parallel.cost
from labkit.launch.sending import _importable
assert _importable(labkit.parallel.cost)
labkit.parallel.cost.__name__ = "labkit.parallel.nowhere"
assert not _importable(labkit.parallel.cost)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
