"""What one checking process does: run the given code, the reference, the answer, the check, and tell what came."""

from __future__ import annotations

import base64
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import MissingPackageError, NotMeasurableError
from labkit.exercises.bounds import lift_memory_bound, limit_memory
from labkit.exercises.failure import AnswerFailed, is_out_of_memory, is_the_answers, raised
from labkit.exercises.grader import Grader
from labkit.exercises.picture import png_of

__all__ = ["Job", "run_job"]

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Plain data for one process. Cells are (name, source); the answer is cells or a pickle, never both.

    A job with a ``picture`` draws it from the reference instead of checking anything.
    """

    task: str
    answer_name: str
    setup: list[tuple[str, str]]
    reference: list[tuple[str, str]]
    deadline_s: float
    memory_bytes: int
    check: str = ""
    answer_cells: list[tuple[str, str]] = field(default_factory=list)
    answer_pickle: str = ""  # base64 of a cloudpickle
    sources: dict[str, str] = field(default_factory=dict)  # of a pickled answer: filename -> text
    sys_path: list[str] = field(default_factory=list)
    picture: str = ""


def run_job(job: Job, emit: Emit) -> dict[str, Any]:
    """The outcome: status, kind, message, at, got, outputs, seconds (or png). Emits ``ready``, and each call first."""
    random.seed(0)
    sys.path += [folder for folder in job.sys_path if folder not in sys.path]
    grader, sources = Grader(), dict[str, str]()
    started = time.perf_counter()
    try:
        reference = _namespace()
        for name, source in [*job.setup, *job.reference]:
            _execute(name, source, reference)
        if job.picture:
            return {"status": "passed", "kind": "drawn", "png": png_of(job.picture, reference)}
        _execute("the check", job.check, reference)
        check = reference["check"]
        learner = _namespace()
        for name, source in job.setup:
            _execute(name, source, learner)
    except BaseException as error:
        what = "Drawing it" if job.picture else "Preparing the check"
        return _not_verified(f"{what} raised {_told(error)}", kind="preparing")
    try:
        emit({"event": "ready"})  # from here on the deadline runs and the memory counts, not while packages load
        limit_memory(job.memory_bytes)
        started = time.perf_counter()
        sources = {_filename(name): source for name, source in job.answer_cells} | job.sources
        grader = Grader(
            namespace=learner,
            sources=sources,
            on_call=lambda number, text: emit({"event": "call", "number": number, "text": text}),
            on_failure=lambda failure: emit({"event": "failure"} | _answer_failed(failure, grader)),
        )
        outcome = _judge(job, grader, sources, check, learner)
    except BaseException as error:
        lift_memory_bound()
        # A comparison that failed is the story, whatever became of the check after it.
        outcome = _classify(grader.failure or error, grader, sources, job)
        if isinstance(error, AnswerFailed) and error is not grader.failure:
            grader.trace.append([grader.num_compared, error.got])
    kept = {"outputs": grader.outputs, "trace": grader.trace, "seconds": time.perf_counter() - started}
    return {"at": grader.num_compared} | outcome | kept


def _judge(
    job: Job, grader: Grader, sources: dict[str, str], check: Callable[..., Any], learner: dict[str, Any]
) -> dict[str, Any]:
    if job.answer_pickle:
        import pickle

        try:
            answer = pickle.loads(base64.b64decode(job.answer_pickle))
        except Exception as error:
            return _not_verified(
                f"Your answer could not be carried into the checking process: {_told(error)}", kind="carry"
            )
        grader.adopt(getattr(answer, "__globals__", {}))
    else:
        broken: list[str] = []
        for name, source in job.answer_cells:
            try:
                _execute(name, source, learner, forgiving=True)
            except SyntaxError as error:
                if name == job.task:
                    line = f", line {error.lineno}: {(error.text or '').strip()}" if error.lineno else ""
                    return _failed(f"Your cell is not Python{line}\n{error.msg}", kind="syntax", got=str(error.msg))
                broken.append(name)
            except BaseException as error:
                # An earlier task that does not run yet is judged by its own check; here it only may be missed.
                if is_out_of_memory(error):
                    raise
                if name == job.task:
                    failure = raised(error, sources)
                    if isinstance(error, NameError):
                        failure.message += _name_note(broken)
                    raise failure from error
                broken.append(name)
        if job.answer_name not in learner:
            return _failed(f"Your cell must define {job.answer_name}; it does not.", kind="value", got="undefined")
        answer = learner[job.answer_name]
    check(grader, answer)
    if grader.failure:
        raise grader.failure
    if not grader.num_compared:
        return _not_verified("The check compared nothing.", kind="check")
    return {"status": "passed", "kind": "passed", "message": ""}


def _classify(error: BaseException, grader: Grader, sources: dict[str, str], job: Job) -> dict[str, Any]:
    """Whose fault it is that the check did not come to its end."""
    given = f"\ninput:  {grader.last_call}" if grader.last_call else ""
    if isinstance(error, AnswerFailed):
        if error.kind == "raised" and "NameError" in error.message and "\n(" not in error.message:
            error.message += _name_note([]) if job.answer_cells else ""
        return _answer_failed(error, grader)
    if is_out_of_memory(error):
        told = f"Your code passed its memory bound of {job.memory_bytes / 2**30:g} GiB"
        return _failed(f"{told}: {str(error) or 'MemoryError'}{given}", kind="memory")
    if isinstance(error, MissingPackageError | NotMeasurableError):
        return _not_verified(str(error), kind="missing")
    if is_the_answers(error, sources):
        return _answer_failed(raised(error, sources, grader.last_call), grader)
    # Whether the answer or the check is at fault is decided outside: the solution goes through the same check.
    return _not_verified(f"The check broke on it: {_told(error)}{given}", kind="check")


def _answer_failed(failure: AnswerFailed, grader: Grader) -> dict[str, Any]:
    at = grader.failed_at if failure is grader.failure else grader.num_compared
    return _failed(failure.message, kind=failure.kind, got=failure.got) | {"at": at}


def _failed(message: str, *, kind: str, got: Any = None) -> dict[str, Any]:
    return {"status": "failed", "kind": kind, "message": message, "got": got}


def _not_verified(message: str, *, kind: str) -> dict[str, Any]:
    return {"status": "not verified", "kind": kind, "message": message}


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _name_note(broken: list[str]) -> str:
    if broken:
        return f"\n(The cell of {', '.join(broken)} does not run yet.)"
    return "\n(Only the tasks' cells and the given code are run: keep your helpers in the task's own cell.)"


def _namespace() -> dict[str, Any]:
    return {"__name__": "__main__", "__builtins__": __builtins__}


def _filename(name: str) -> str:
    return f"<{name}>"


def _execute(name: str, source: str, namespace: dict[str, Any], *, forgiving: bool = False) -> None:
    """Run a cell. forgiving: a learner's lines of IPython (%timeit, !ls, ?help) are left out."""
    try:
        code = compile(source, _filename(name), "exec")
    except SyntaxError:
        plain = "\n".join("pass" if line.startswith(("%", "!", "?")) else line for line in source.split("\n"))
        if not forgiving or plain == source:
            raise
        code = compile(plain, _filename(name), "exec")
    exec(code, namespace)
