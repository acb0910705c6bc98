"""A learner's notebook beside the solution, through nbdime, once they have passed or asked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from labkit.errors import UsageError
from labkit.exercises.check import check_notebook
from labkit.exercises.generate import solve
from labkit.exercises.locate import solution_for
from labkit.exercises.nodes import node, notebook_of
from labkit.exercises.reading import read_notebook

__all__ = ["diff"]


def diff(path: Path | str, *, asked: bool = False) -> str:
    """nbdime's text of what turns the learner's notebook into the solved exercise (sources alone), or that none does.

    UsageError while a task has not passed, unless ``asked``. NotebookError where path is no exercise.
    """
    path = Path(path)
    exercise = solution_for(path)
    if not asked:
        report = check_notebook(path)
        open_tasks = [task.task for task in report.tasks if task.status != "passed"]
        if open_tasks:
            raise UsageError(
                f"The solution is shown after passing; not passed yet: {', '.join(open_tasks)}. "
                f"To see it all the same, ask for it: `labkit diff --show {path}`."
            )
    from nbdime import diff_notebooks
    from nbdime.prettyprint import PrettyPrintConfig, pretty_print_notebook_diff

    learner, solution = (_sources(node(book)) for book in (read_notebook(path), solve(exercise)))
    out = io.StringIO()
    config = PrettyPrintConfig(out=out, use_color=False, use_git=False)
    pretty_print_notebook_diff(str(path), str(exercise.path), learner, diff_notebooks(learner, solution), config)
    return out.getvalue() or "Your notebook and the solution are the same."


def _sources(notebook: Any) -> Any:
    """Only what is written in the cells: no outputs, counts, metadata or pictures."""
    cells = []
    for cell in notebook.cells:
        source = cell.source if isinstance(cell.source, str) else "".join(cell.source)
        kept = {"id": cell.get("id", ""), "cell_type": cell.cell_type, "metadata": {}, "source": source}
        cells.append(kept | ({"outputs": [], "execution_count": None} if cell.cell_type == "code" else {}))
    return notebook_of(cells, {})
