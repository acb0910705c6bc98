"""nbformat, which has no types, behind two functions."""

from __future__ import annotations

from typing import Any

__all__ = ["node", "notebook_of", "text_of"]


def node(fields: dict[str, Any]) -> Any:
    """A cell or notebook of nbformat's from plain data."""
    import nbformat

    return nbformat.from_dict(fields)  # type: ignore[no-untyped-call]


def notebook_of(cells: list[Any], metadata: dict[str, Any]) -> Any:
    """A notebook of format 4.5, in which cells have ids."""
    return node({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells})


def text_of(notebook: Any) -> str:
    """The file's text: validated, sorted keys, one-space indent, a newline at the end."""
    import nbformat

    nbformat.validate(notebook)
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"  # type: ignore[no-untyped-call]
