"""A small checkout and a work folder, with hands to change both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

LABELS: dict[str, Any] = {
    "id": "00",
    "title": "Start here",
    "question": "What can this machine do?",
    "minutes": 30,
    "needs": {"cores": 1, "memory_gib": 2, "packages": ["torch"], "accelerator": False},
    "steps": [{"id": "all-reduce", "title": "Ranks", "needs": ["gloo"]}],
    "objectives": ["place a kernel", "fit a roofline"],
    "wrong_belief": "More FLOP/s is always faster.",
    "signature_picture": "b",
}


def notebook(cells: dict[str, str], **metadata: Any) -> dict[str, Any]:
    """cells: id -> source; an id that begins with m is a markdown cell."""
    made = []
    for name, source in cells.items():
        cell: dict[str, Any] = {"id": name, "metadata": {}, "source": source.splitlines(keepends=True)}
        is_text = name.startswith("m")
        cell |= {"cell_type": "markdown"} if is_text else {"cell_type": "code", "outputs": [], "execution_count": None}
        made.append(cell)
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel, **metadata}, "cells": made}


class Checkout:
    """root: the lab's; work: the learner's. ``cells`` is the lesson as it stands upstream."""

    def __init__(self, folder: Path) -> None:
        self.root, self.work = folder / "lab", folder / "lab" / "work"
        self.lesson = self.root / "notebooks" / "00_start_here.ipynb"
        self.copy = self.work / "notebooks" / "00_start_here.ipynb"
        self.new = self.copy.with_name("00_start_here.new.ipynb")
        self.cells = {"m": "# Start\n", "a": "x = 1\ny = 2\nz = 3", "b": "print(x)", "c": "c = 3"}
        self.publish()

    def publish(self, **changed: str) -> None:
        """Change cells upstream (an empty source removes one)."""
        self.cells = {name: source for name, source in {**self.cells, **changed}.items() if source}
        self.write(self.lesson, notebook(self.cells, labkit=LABELS))

    def write(self, path: Path, document: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n")  # as JupyterLab

    def read(self, path: Path | None = None) -> dict[str, Any]:
        return dict(json.loads((path or self.copy).read_text()))

    def sources(self, path: Path | None = None) -> dict[str, str]:
        return {cell["id"]: "".join(cell["source"]) for cell in self.read(path)["cells"]}

    def edit(self, **changed: str) -> None:
        """Change, add (at the end) or, by an empty source, delete cells of the copy, as a front end saves it."""
        document = self.read()
        there = {cell["id"]: cell for cell in document["cells"]}
        for name, source in changed.items():
            if name not in there:
                document["cells"].append(notebook({name: source})["cells"][0])
            elif source:
                there[name]["source"] = source
        document["cells"] = [cell for cell in document["cells"] if changed.get(cell["id"], "kept")]
        self.write(self.copy, document)

    def run(self) -> None:
        """What a front end leaves: outputs, counts, times, language_info."""
        document = self.read()
        for number, cell in enumerate(document["cells"]):
            if cell["cell_type"] == "code":
                cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": [f"{cell['id']}\n"]}]
                cell["execution_count"] = number
                cell["metadata"] = {"execution": {"iopub.status.busy": "now"}, "scrolled": True}
        document["metadata"]["language_info"] = {"name": "python", "version": "3.11.9"}
        self.write(self.copy, document)

    def outputs(self) -> dict[str, str]:
        return {
            cell["id"]: "".join(cell["outputs"][0]["text"])
            for cell in self.read()["cells"]
            if cell["cell_type"] == "code" and cell["outputs"]
        }


@pytest.fixture
def lab(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture(scope="session")
def new_checkout() -> type[Checkout]:
    """For tests that need many: a fixture of its own would be shared by all examples of a property."""
    return Checkout
