"""Putting traps where a library's own version can be reached, for as long as an answer is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["trapped"]

_MISSING = object()


@contextmanager
def trapped(name: str, namespace: dict[str, Any], make_trap: Callable[[Any], Any]) -> Iterator[None]:
    """Replace ``name`` ("numpy.sort") by ``make_trap(original)`` inside.

    Every binding of the same object in ``namespace`` and in the modules of its package is replaced; a builtin
    ("builtins.sorted") in the namespace alone, since everything else lives on builtins too.
    """
    module_name, _, attribute = name.rpartition(".")
    original = getattr(importlib.import_module(module_name), attribute)
    trap = make_trap(original)
    undo: list[tuple[dict[str, Any], str, Any]] = []
    if module_name == "builtins":
        undo.append((namespace, attribute, namespace.get(attribute, _MISSING)))
    else:
        top = module_name.partition(".")[0]
        places = [vars(module) for key, module in list(sys.modules.items()) if module and key.partition(".")[0] == top]
        for place in [*places, namespace]:
            undo += [(place, key, original) for key, value in list(place.items()) if value is original]
    try:
        for place, key, _ in undo:
            place[key] = trap
        yield
    finally:
        for place, key, value in undo:
            if value is _MISSING:
                place.pop(key, None)
            else:
                place[key] = value
