"""What a check is given: it calls the answer, compares, and says which input, what came and what was wanted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from labkit.errors import MissingPackageError, NotMeasurableError
from labkit.exercises import values
from labkit.exercises.failure import AnswerFailed, is_out_of_memory, raised
from labkit.exercises.forbidden import trapped

__all__ = ["Grader"]

MAX_FAILURES = 100


class Grader:
    """One judging of one answer.

    A comparison that fails is kept, and the check goes on; the learner is told the first. An exception in the answer
    ends the check. sources: filename -> text of the learner's cells; on_call: told before each call; on_failure: told
    the first failure.
    """

    def __init__(
        self,
        *,
        namespace: dict[str, Any] | None = None,
        sources: Mapping[str, str] | None = None,
        on_call: Callable[[int, str], None] | None = None,
        on_failure: Callable[[AnswerFailed], None] | None = None,
    ) -> None:
        self.outputs: list[Any] = []  # canonical, one a call
        self.trace: list[list[Any]] = []  # every failed comparison: its number and what came
        self.failure: AnswerFailed | None = None  # the first
        self.failed_at = 0
        self.num_compared = 0
        self.last_call = ""
        self._namespace = namespace if namespace is not None else {}
        self._sources = dict(sources or {})
        self._on_call = on_call or (lambda number, text: None)
        self._on_failure = on_failure or (lambda failure: None)
        self._inside = False  # the answer is running
        self._used: list[str] = []  # forbidden things that it called

    def adopt(self, namespace: dict[str, Any]) -> None:
        """The globals of an answer that came by pickle: what ``forbid`` replaces there."""
        self._namespace = namespace

    def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the answer (or a method of it) and keep what came; what it raises fails the task, the input named."""
        given = [values.shown(arg) for arg in args] + [f"{key}={values.shown(arg)}" for key, arg in kwargs.items()]
        name = getattr(fn, "__qualname__", None) or type(fn).__name__
        self.last_call = f"{name.replace('<locals>.', '')}({', '.join(given)})"
        self._on_call(len(self.outputs) + 1, self.last_call)
        if not callable(fn):
            raise AnswerFailed(f"The answer must be something to call; got {values.shown(fn)}.", kind="value", got="")
        self._inside = True
        try:
            value = fn(*args, **kwargs)
        except AnswerFailed:
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: they are the answer's doing
            self._refuse_forbidden()
            if is_out_of_memory(error) or isinstance(error, MissingPackageError | NotMeasurableError):
                raise  # not a fault of the answer's logic: judged apart
            raise raised(error, self._sources, self.last_call) from error
        finally:
            self._inside = False
        self._refuse_forbidden()
        self.outputs.append(values.canonical(value))
        return value

    def equal(self, got: Any, want: Any, what: str = "the result") -> None:
        """Exactly equal: structure, shapes, values."""
        self._compare(got, want, what, "")

    def close(self, got: Any, want: Any, rtol: float = 1e-6, atol: float = 0.0, what: str = "the result") -> None:
        """Equal in structure and shapes, every number within ``atol + rtol * |want|``."""
        self._compare(got, want, what, f" (within {rtol:g} of it)" if rtol else f" (within {atol:g})", rtol, atol)

    def at_most(self, got: Any, limit: float, what: str = "the result") -> None:
        """A number that may not pass ``limit``: bytes sent, blocks held, calls made."""
        self._bound(got, limit, what, "at most", lambda number: number <= limit)

    def at_least(self, got: Any, limit: float, what: str = "the result") -> None:
        """A number that must reach ``limit``."""
        self._bound(got, limit, what, "at least", lambda number: number >= limit)

    def true(self, condition: Any, message: str, got: Any = None) -> None:
        """A condition in words; hand over ``got`` where a wrong value should be told and recognised."""
        self.num_compared += 1
        if not condition:
            self._note(self._failed(message, got, None))

    def raises(self, error: type[BaseException], fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The answer must refuse this input with that error."""
        self.num_compared += 1
        try:
            value = self.call(fn, *args, **kwargs)
        except AnswerFailed as failure:
            if failure.kind == "forbidden":
                raise
            self.outputs.append(str(failure.got))
            if not isinstance(failure.__cause__, error):
                self._note(failure)
            return
        self._note(self._failed("what came of an input to refuse", value, f"{error.__name__} raised"))

    @contextmanager
    def forbid(self, *names: str) -> Iterator[None]:
        """Inside, ``grader.call`` may not reach these: ``with grader.forbid("torch.distributed.all_reduce"): …``.

        Every binding of the same object in the answer's cells and in the library's own modules is replaced; a builtin
        (``"builtins.sorted"``) in the answer's cells alone. Processes that the answer starts are not reached.
        """
        with ExitStack() as traps:
            for name in names:
                traps.enter_context(trapped(name, self._namespace, functools.partial(self._trap, name)))
            yield

    def _trap(self, name: str, original: Any) -> Callable[..., Any]:
        def forbidden(*args: Any, **kwargs: Any) -> Any:
            if not self._inside:  # the check itself may compare with the library's
                return original(*args, **kwargs)
            self._used.append(name)
            raise AnswerFailed(self._forbidden_message(name), kind="forbidden", got=name)

        return forbidden

    def _refuse_forbidden(self) -> None:
        if self._used:  # also when the answer's own except clause swallowed it
            raise AnswerFailed(self._forbidden_message(self._used[0]), kind="forbidden", got=self._used[0])

    def _forbidden_message(self, name: str) -> str:
        return f"The point is to write it: {name} may not be called here.\ninput:  {self.last_call}"

    def _note(self, failure: AnswerFailed) -> None:
        """Keep a failure and go on: what an answer gives for the other inputs tells one mistake from another."""
        self.trace.append([self.num_compared, failure.got])
        if self.failure is None:
            self.failure, self.failed_at = failure, self.num_compared
            self._on_failure(failure)
        if len(self.trace) >= MAX_FAILURES:
            raise self.failure

    def _compare(self, got: Any, want: Any, what: str, within: str, rtol: float = 0.0, atol: float = 0.0) -> None:
        self.num_compared += 1
        try:
            fits = values.same(got, want, rtol=rtol, atol=atol)
        except Exception:  # what came cannot even be compared (ragged, of another kind): it is not what was wanted
            fits = False
        if not fits:
            self._note(self._failed(what, got, values.shown(want) + within))

    def _bound(self, got: Any, limit: float, what: str, word: str, fits: Callable[[Any], Any]) -> None:
        self.num_compared += 1
        try:
            ok = bool(fits(got))
        except Exception:
            ok = False
        if not ok:
            self._note(self._failed(what, got, f"{word} {values.shown(limit)}"))

    def _failed(self, what: str, got: Any, want: str | None) -> AnswerFailed:
        lines = [what[:1].upper() + what[1:] + ("" if want is None else " is not right")]
        if self.last_call:
            lines.append(f"input:  {self.last_call}")
        if got is not None or want is not None:
            lines.append(f"got:    {values.shown(got)}")
        if want is not None:
            lines.append(f"wanted: {want}")
        return AnswerFailed("\n".join(lines), kind="value", got=values.canonical(got))
