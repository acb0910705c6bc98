"""Whether a front end is there, and where a widget's failure is written so that no run passes over it."""

from __future__ import annotations

import json
import os
import traceback
from html import escape

from labkit.errors import LabError

__all__ = ["error_html", "is_headless", "record_failure"]

_HEADLESS, _FAILURES = "LABKIT_HEADLESS", "LABKIT_WIDGET_FAILURES"


def is_headless() -> bool:
    """True where the notebook is executed without a front end (the runner sets LABKIT_HEADLESS=1)."""
    return os.environ.get(_HEADLESS, "") not in ("", "0")


def record_failure(widget: str, error: BaseException, *, where: str, values: object = None) -> None:
    """Append one JSON line on ``error`` to the file that LABKIT_WIDGET_FAILURES names, if it names one."""
    path = os.environ.get(_FAILURES)
    if not path:
        return
    line = {
        "widget": widget,
        "where": where,
        "error": type(error).__name__,
        "message": str(error),
        "values": repr(values) if values is not None else None,
        "traceback": "".join(traceback.format_exception(error)),
    }
    # One write in append mode: lines of several kernels do not mix.
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def error_html(error: BaseException, *, where: str) -> str:
    """The error and its cause, as a red box that says "error" in words too."""
    said = escape(str(error))
    if not isinstance(error, LabError):  # ours speak for themselves; of any other its kind and place help
        frames = traceback.extract_tb(error.__traceback__)
        at = f"<br><small>in {escape(frames[-1].name)}, line {frames[-1].lineno}</small>" if frames else ""
        said = f"{escape(type(error).__name__)}: {said}{at}"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    because = f"<br>caused by {escape(type(cause).__name__)}: {escape(str(cause))}" if cause else ""
    return (
        '<div role="alert" style="border-left:4px solid #c62828;color:#b71c1c;background:#fdecea;padding:6px 10px;'
        f'line-height:1.5"><strong>Error in {escape(where)}</strong><br>{said}{because}</div>'
    )
