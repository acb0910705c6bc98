"""That an answer is wrong, and how its own exceptions become that: the line of the learner's cell, the input."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Mapping
from typing import Any

__all__ = ["AnswerFailed", "is_out_of_memory", "is_the_answers", "raised"]


class AnswerFailed(BaseException):  # not an Exception: a check's own `except Exception` must not swallow it
    """The answer is not right. ``kind`` is value, raised, unsolved or forbidden; ``got`` is canonical."""

    def __init__(self, message: str, *, kind: str, got: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.got = got


def raised(error: BaseException, sources: Mapping[str, str], last_call: str = "") -> AnswerFailed:
    """What the answer's own exception means. sources: filename -> text of the learner's cells."""
    told = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, NotImplementedError) and not str(error):  # as the stub raises it
        return AnswerFailed("Not solved yet: the stub still stands.", kind="unsolved", got="")
    message = f"Your code raised {told}{_where(error, sources)}"
    return AnswerFailed(message + (f"\ninput:  {last_call}" if last_call else ""), kind="raised", got=told)


def is_the_answers(error: BaseException, sources: Mapping[str, str]) -> bool:
    """A frame of the learner's cells stands in the traceback."""
    return any(frame.filename in sources for frame in traceback.extract_tb(error.__traceback__))


def is_out_of_memory(error: BaseException) -> bool:
    """Python's, numpy's, torch's or the system's way to say so."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _where(error: BaseException, sources: Mapping[str, str]) -> str:
    """`` , in line 3: x = y[4]``, or nothing where no frame is the learner's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in sources and frame.lineno:
            lines = sources[frame.filename].split("\n")
            text = lines[frame.lineno - 1].strip() if frame.lineno <= len(lines) else ""
            return f", in line {frame.lineno}: {text}" if text else f", in line {frame.lineno}"
    return ""
