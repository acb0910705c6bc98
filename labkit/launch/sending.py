"""A call on its way to other processes: pickled whole where its module cannot be imported there, and its source too."""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import inspect
import io
import linecache
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from labkit.errors import UsageError

__all__ = ["cell_sources", "write_call", "zipped"]


def write_call(path: Path, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Leave ``(fn, args, kwargs)`` in a file. UsageError names what cannot be sent."""
    if not callable(fn):
        raise UsageError(f"launch.run takes a function; got {_a(fn)}. Write launch.run(fn, …), not launch.run(fn(…)).")
    with _by_value(fn):
        try:
            with path.open("wb") as file:
                cloudpickle.dump((fn, args, dict(kwargs)), file)
        except OSError:
            raise  # the disk, not the call
        except Exception as error:
            raise UsageError(
                f"launch.run cannot send {_culprit(fn, args, kwargs)} to other processes: {error}. "
                "Open files, locks and servers stay where they are; make them inside the function."
            ) from error


def _culprit(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """What could not be sent, by the name that the caller knows it by."""
    name = getattr(fn, "__name__", type(fn).__name__)
    if not _can_be_sent(fn):
        for used, value in _uses(fn).items():
            if not _can_be_sent(value):
                return f"the function {name}, because it uses {used}, {_a(value)},"
        return f"the function {name}"
    for parameter, value in _by_parameter(fn, args, kwargs).items():
        if not _can_be_sent(value):
            return f"the argument {parameter}, {_a(value)},"
    return "this call"


def _can_be_sent(value: object) -> bool:
    try:
        cloudpickle.dump(value, io.BytesIO())
    except Exception:
        return False
    return True


def _uses(fn: Callable[..., Any]) -> dict[str, object]:
    """Variables of the surrounding function or notebook that ``fn`` names."""
    try:
        found = inspect.getclosurevars(_innermost(fn))
    except (TypeError, ValueError):
        return {}
    return {**found.globals, **found.nonlocals}


def _by_parameter(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, object]:
    try:
        signature = inspect.signature(fn)
        bound = dict(signature.bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # no signature, or a wrong call, as its rank will say
        signature, bound = inspect.signature(lambda *args, **kwargs: None), {"args": args, "kwargs": dict(kwargs)}
    named: dict[str, object] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named |= {f"{name}[{index}]": each for index, each in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return named


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _innermost(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside partials and bound methods."""
    while True:
        inner = fn.func if isinstance(fn, functools.partial) else getattr(fn, "__func__", fn)
        if inner is fn:
            return fn
        fn = inner


@contextlib.contextmanager
def _by_value(fn: Callable[..., Any]) -> Iterator[None]:
    """Send a function whole when its module cannot be imported elsewhere (a test collected by path)."""
    module = sys.modules.get(getattr(_innermost(fn), "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or _importable(module):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _importable(module: ModuleType) -> bool:
    """Without importing, and without the modules already loaded; a package installed in place has a finder of its own,
    which every process of this environment has."""
    package, *inside = module.__name__.split(".")
    specs = (finder.find_spec(package, None) for finder in sys.meta_path if not _is_of_tests(finder))
    spec = next((found for found in specs if found is not None), None)
    for part in inside:
        if spec is None:
            return False
        spec = importlib.machinery.PathFinder.find_spec(part, list(spec.submodule_search_locations or []))
    return spec is not None


def _is_of_tests(finder: object) -> bool:
    """pytest's, which ranks do not have."""
    return type(finder).__module__.startswith("_pytest")


def cell_sources() -> dict[str, list[str]]:
    """Source lines that exist only in this process (IPython keeps each cell's), so that a traceback can show them."""
    found = {}
    for name, entry in list(linecache.cache.items()):
        if len(entry) == 4 and entry[1] is None:  # no modification time: not read from a file
            found[name] = list(entry[2])
    return found


def zipped(package: Path) -> bytes:
    """A package's folder, for a machine that does not have it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, Path(package.name) / file.relative_to(package))
    return packed.getvalue()
