"""The one tree of errors that a user can cause or meet.

Every message says what came, what was wanted and what to do. Whatever is our own fault is an ``assert`` instead.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConflictError",
    "DataError",
    "DeadlineError",
    "EndpointError",
    "LabError",
    "LaunchError",
    "LoadError",
    "LockedRecordsError",
    "MissingPackageError",
    "ModelError",
    "NetworkHomeError",
    "NewerSchemaError",
    "NoSpaceError",
    "NotMeasurableError",
    "NotebookError",
    "RankError",
    "RecordsError",
    "ServerError",
    "TornRecordsError",
    "UsageError",
]


class LabError(ValueError):
    """Base of every error that labkit raises on purpose."""


class UsageError(LabError):
    """An argument, profile, parameter or path that cannot be meant."""


class MissingPackageError(LabError):
    """A package that this step needs is not installed; ``cure`` is the command that installs it."""

    def __init__(self, package: str, *, needed_for: str, cure: str = "make setup") -> None:
        super().__init__(f"{needed_for} needs the package {package}, which is not installed here. Run `{cure}`.")
        self.package = package
        self.cure = cure


class ModelError(LabError):
    """A model folder, its weights or its tokenizer cannot be used as they are."""


class DataError(LabError):
    """A corpus, a shard or a sample that is missing, empty, damaged or not what it was when it was written."""


class NotMeasurableError(LabError):
    """This machine cannot show it; the message is the reason that the claims ledger keeps."""


class NoSpaceError(LabError):
    """The disk is full, or too full for what was asked; nothing was left half-written."""


class DeadlineError(LabError):
    """Work that was given a deadline and passed it; its processes have been ended."""


class LaunchError(LabError):
    """A launch that could not start, or that lost a rank without a Python error of its own."""


class RankError(LaunchError):
    """A rank raised: ``rank`` is the first that did, ``remote_traceback`` its own traceback, ``log`` its output."""

    def __init__(self, message: str, *, rank: int, remote_traceback: str = "", log: str = "") -> None:
        super().__init__(message)
        self.rank = rank
        self.remote_traceback = remote_traceback
        self.log = log


class EndpointError(LabError):
    """A server that cannot be reached, or that does not answer as OpenAI's API does.

    result: what a load had been served by then (labkit.serving.LoadResult), None where there was no load.
    """

    def __init__(self, message: str, *, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class LoadError(EndpointError):
    """The server went away in the middle of a load; ``result`` holds what it had served."""


class ServerError(LabError):
    """An inference server that this process owns did not come up, or has gone; ``log_tail`` is what it said last."""

    def __init__(self, message: str, *, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail


class RecordsError(LabError):
    """The records file cannot be used as it is; what it holds is untouched."""


class NewerSchemaError(RecordsError):
    """The records were written by a newer labkit."""


class TornRecordsError(RecordsError):
    """The records file is not a sound SQLite file."""


class LockedRecordsError(RecordsError):
    """Another process holds the records file and did not let go in time."""


class NetworkHomeError(RecordsError):
    """The records would live on a network filesystem, where SQLite's locks cannot be trusted."""


class NotebookError(LabError):
    """A notebook that cannot be run as it is, or that failed; ``cell`` is the failing cell's number, if any."""

    def __init__(self, message: str, *, notebook: str = "", cell: int | None = None) -> None:
        super().__init__(message)
        self.notebook = notebook
        self.cell = cell


class ConflictError(LabError):
    """Two versions of one file that cannot be merged; both are kept."""
