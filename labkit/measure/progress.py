"""How a long call tells that it is still at work: floor 4 or the command line draws it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OnProgress"]

OnProgress = Callable[[float, str], None]  # fraction done (0 to 1), what is being done
