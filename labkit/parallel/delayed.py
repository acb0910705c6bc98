"""A transfer that is done when its bytes have come and its link would have carried them, whichever is later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["DelayedWork", "Lane", "Transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One transfer, as it went. Times are time.monotonic(): asked for, began and ended on the link, done for real."""

    op: str
    num_bytes: float
    asked_s: float
    start_s: float = 0.0
    finish_s: float = 0.0
    done_s: float = 0.0

    @property
    def late_s(self) -> float:
        """How much longer it took than the link would have: the real transfer, and what else the machine did."""
        return self.done_s - self.finish_s


class DelayedWork(dist.Work):
    """What a call on the group returns. It can be waited for, or asked for its future, as any other Work."""

    def __init__(self, op: str, outputs: list[torch.Tensor]) -> None:
        super().__init__()
        self._op, self._outputs = op, outputs
        self._error: Exception | None = None
        self._done = threading.Event()
        self._completed: torch.futures.Future[None] = torch.futures.Future()
        # A future with set_exception holds the error as a value, and only Python unwraps it: DDP's reducer, which is
        # C++, would take it for a result. What a callback raises is an error to both.
        self._future = self._completed.then(self._result)

    def complete(self, error: Exception | None = None) -> None:
        self._error = error
        self._completed.set_result(None)
        self._done.set()

    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        seconds = timeout.total_seconds()
        if not self._done.wait(seconds if seconds > 0 else None):  # torch's 0 is no limit
            raise RuntimeError(f"{self._op} was not done within {seconds:g} s.")
        if self._error is not None:
            raise self._error
        return True

    def get_future(self) -> torch.futures.Future[list[torch.Tensor]]:
        return self._future

    def is_completed(self) -> bool:
        return self._done.is_set()

    def is_success(self) -> bool:
        return self._done.is_set() and self._error is None

    def result(self) -> list[torch.Tensor]:
        return self._outputs

    def _result(self, _completed: torch.futures.Future[None]) -> list[torch.Tensor]:
        if self._error is not None:
            raise self._error
        return self._outputs


@dataclass(frozen=True, slots=True)
class _Waiting:
    work: DelayedWork
    transfer: Transfer  # as it was asked for
    agree: Callable[[], tuple[float, float]]  # waits until start and finish are known
    real: Any  # gloo's Work


class Lane:
    """Transfers that end in the order in which they began, completed by a thread of their own.

    The thread sleeps and waits for gloo; whoever asked for the transfer computes meanwhile.
    """

    def __init__(self, name: str, done: Callable[[Transfer], object]) -> None:
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._tell = done
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, work: DelayedWork, transfer: Transfer, agree: Callable[[], tuple[float, float]], real: Any) -> None:
        self._waiting.put(_Waiting(work, transfer, agree, real))

    def close(self) -> None:
        """Complete what was added, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            error = None
            try:
                self._tell(_passed(waiting))
            except Exception as caught:
                error = caught
            waiting.work.complete(error)


def _passed(waiting: _Waiting) -> Transfer:
    asked = waiting.transfer
    try:
        start_s, finish_s = waiting.agree()
        waiting.real.wait()
    except RuntimeError as error:
        # gloo's own words stay in it: by them launch tells the rank that failed from those that only noticed.
        why = "Another rank has gone, or did not make the same call"
        raise RuntimeError(f"{asked.op} over the throttled fabric failed. {why}: {error}") from error
    if (left_s := finish_s - time.monotonic()) > 0:
        time.sleep(left_s)
    return replace(asked, start_s=start_s, finish_s=finish_s, done_s=max(finish_s, time.monotonic()))
