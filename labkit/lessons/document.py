"""A notebook as plain JSON: reading it, what in it is content, its version, and writing it."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

from labkit.errors import NotebookError

__all__ = ["COPY_KEY", "VIEW_KEYS", "cell_content", "parse", "read", "render", "stamped", "version_of"]

COPY_KEY = "labkit_copy"  # in a work copy's metadata: which version of the lesson it stands on
# What a front end or a run leaves behind; none of it is an edit.
VIEW_KEYS = {"collapsed", "scrolled", "execution", "ExecuteTime", "trusted", "papermill", "jupyter", "vscode"}
_NOTEBOOK_VIEW = {"language_info", "widgets", "papermill", "kernelspec", "vscode", "toc", COPY_KEY}


def read(path: Path) -> dict[str, Any]:
    """Read a notebook. NotebookError when it is missing, torn, or no notebook of version 4."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        raise NotebookError(f"{path} does not exist.", notebook=str(path)) from None
    except (OSError, ValueError) as error:
        raise NotebookError(f"{path} cannot be read as a notebook: {error}", notebook=str(path)) from error


def parse(data: bytes) -> dict[str, Any]:
    """A notebook's JSON with each source as one text. ValueError says why it is none."""
    if not data.strip():
        raise ValueError("it is empty")
    document = json.loads(data.decode("utf-8"))
    if not isinstance(document, dict) or document.get("nbformat") != 4:
        raise ValueError("it is not a notebook of format 4")
    cells, metadata = document.get("cells"), document.setdefault("metadata", {})
    if not isinstance(cells, list) or not isinstance(metadata, dict):
        raise ValueError("it has no list of cells")
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict) or not isinstance(cell.get("cell_type"), str):
            raise ValueError(f"its cell {number} is no cell")
        source = cell.get("source", "")
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str) or not isinstance(cell.setdefault("metadata", {}), dict):
            raise ValueError(f"its cell {number} has no readable source")
        cell["source"] = source
    return document


def cell_content(cell: dict[str, Any]) -> dict[str, Any]:
    """What an author wrote in a cell: type, source, metadata without a front end's, attachments; nothing of a run."""
    return {
        "cell_type": cell["cell_type"],
        "source": cell["source"],
        "metadata": {key: value for key, value in cell["metadata"].items() if key not in VIEW_KEYS},
        "attachments": cell.get("attachments") or {},
    }


def version_of(document: dict[str, Any]) -> str:
    """12 hexadecimal digits of the content: running, folding or saving a notebook does not change them."""
    content = {
        "cells": [{"id": cell.get("id"), **cell_content(cell)} for cell in document["cells"]],
        "metadata": {key: value for key, value in document["metadata"].items() if key not in _NOTEBOOK_VIEW},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def stamped(document: dict[str, Any], version: str) -> dict[str, Any]:
    """The document as a work copy that stands on a version: content and stamp are written in one piece."""
    marked = copy.deepcopy(document)
    marked["metadata"][COPY_KEY] = {"version": version}
    return marked


def render(document: dict[str, Any]) -> bytes:
    """As nbformat writes it: sources as lists of lines, one space deep, a newline at the end."""
    written = copy.deepcopy(document)
    for cell in written["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)
    text = json.dumps(written, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # an output with half a surrogate pair: only JSON's escapes can hold it
        return (json.dumps(written, indent=1, sort_keys=True) + "\n").encode()
