"""Notebooks are committed without outputs, with cell ids and a kernelspec; cells of lessons have at most 15 lines."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_CELL_LINES = 15


def findings(path, notebook):
    """What is wrong with one notebook, a line each. path: relative to the checkout."""
    if notebook.get("metadata", {}).get("kernelspec", {}).get("name") != "python3":
        yield "no python3 kernelspec: JupyterLab would stop at a dialog"
    for number, cell in enumerate(notebook["cells"], 1):
        if not cell.get("id"):
            yield f"cell {number} has no id: merges match cells by it"
        if cell["cell_type"] != "code":
            continue
        if cell.get("outputs") or cell.get("execution_count"):
            yield f"cell {number} has outputs: clear them before committing"
        lines = "".join(cell["source"]).count("\n") + 1
        if path.parts[0] == "notebooks" and lines > MAX_CELL_LINES:
            yield f"cell {number} has {lines} lines; {MAX_CELL_LINES} is the most"


def main():
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.ipynb"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    bad = 0
    for name in filter(None, listed):
        for finding in findings(Path(name), json.loads((ROOT / name).read_text())):
            print(f"{name}: {finding}", file=sys.stderr)
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
