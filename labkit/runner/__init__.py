"""Running notebooks unattended, by papermill, with a contract that refuses what would run wrongly."""

from labkit.runner.execute import run_notebooks
from labkit.runner.report import NotebookReport, RunReport

__all__ = ["NotebookReport", "RunReport", "run_notebooks"]
