"""A load of requests against an endpoint, open loop or closed, measured from the client's side.

It has an event loop in a thread of its own, since it is called from notebook cells too, where one runs already.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import selectors
import sys
import threading
from collections.abc import Iterator, Sequence

from labkit.errors import UsageError
from labkit.measure import OnProgress
from labkit.serving.endpoint import Endpoint
from labkit.serving.load_fault import raise_for_the_server
from labkit.serving.load_result import LoadResult
from labkit.serving.load_sender import Sender
from labkit.serving.requests import Request

__all__ = ["Load", "run_load"]

TELL_S = 0.25
CLOSING_S = 5.0
EVENTS_AT_A_TIME = 4
SWITCH_S = 0.0005  # Python's 5 ms is how late a thread may get its turn while another computes


class Load:
    """A load that can be looked at: ``result`` is what was served so far, while it runs and after a Ctrl-C too."""

    def __init__(
        self,
        endpoint: Endpoint,
        requests: Sequence[Request],
        *,
        concurrency: int | None = None,
        timeout_s: float = 600.0,
        stall_s: float = 60.0,
        max_requests: int = 10_000,
        on_progress: OnProgress | None = None,
    ) -> None:
        """As run_load."""
        asked = tuple(requests)
        if not asked:
            raise UsageError("A load needs at least one request; got none.")
        if len(asked) > max_requests:
            raise UsageError(
                f"A load has at most max_requests = {max_requests} requests; got {len(asked)}. Send fewer, or raise it."
            )
        if concurrency is not None and concurrency < 1:
            raise UsageError(
                f"concurrency must be at least 1, or None for an open loop, in which requests come at their arrival_s; "
                f"got {concurrency}."
            )
        for name, value in (("timeout_s", timeout_s), ("stall_s", stall_s)):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be positive and finite; got {value}.")
        self._on_progress = on_progress
        self._ended = threading.Event()
        self._fault: BaseException | None = None
        self._begun = False
        self._sender = Sender(endpoint, asked, concurrency=concurrency, timeout_s=timeout_s, stall_s=stall_s)

    @property
    def result(self) -> LoadResult:
        """What was sent and has ended so far; the whole of it once the load is over."""
        sender = self._sender
        start_s = sender.start_s
        end_s = sender.now_s() if sender.end_s is None or start_s is None else sender.end_s - start_s
        served = tuple(sorted(sender.served, key=lambda one: one.index))
        if not sender.why and sender.end_s is not None and served:
            end_s = max(one.finished_s for one in served)
        return LoadResult(
            endpoint=sender.endpoint,
            served=served,
            num_requests=len(sender.requests),
            concurrency=sender.concurrency,
            started_unix_s=sender.started_unix_s,
            duration_s=end_s,
            deadline_hit=sender.why == "deadline",
            notes=tuple(sender.dialect.notes) + self._cut_note(len(served)),
        )

    def _cut_note(self, num_sent: int) -> tuple[str, ...]:
        num_requests, why = len(self._sender.requests), self._sender.why
        reasons = {"deadline": f"timeout_s = {self._sender.timeout_s:g} was over", "interrupted": "it was interrupted"}
        if why not in reasons:
            return ()
        return (f"The load was cut off because {reasons[why]}: {num_sent} of {num_requests} requests had been sent.",)

    def run(self) -> LoadResult:
        """Send it all, once; errors as of run_load."""
        if self._begun:
            raise UsageError("A Load runs once. Make another one to repeat it.")
        self._begun = True
        thread = threading.Thread(target=self._in_thread, name="labkit-load", daemon=True)
        with _little_disturbance():
            try:
                thread.start()
                while not self._ended.wait(TELL_S):
                    self._tell()
            except BaseException as error:
                self._sender.stop("interrupted")
                self._ended.wait(CLOSING_S)
                if isinstance(error, KeyboardInterrupt):
                    _carry(error, self.result)
                raise
            thread.join()
        if self._fault is not None:
            raise self._fault
        raise_for_the_server(self._sender, self.result)
        self._tell(1.0)
        return self.result

    def _in_thread(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_event_loop) as runner:
                runner.run(self._sender.run())
        except BaseException as error:  # for the thread that waits
            self._fault = error
        finally:
            self._ended.set()

    def _tell(self, done: float | None = None) -> None:
        if self._on_progress is not None:
            ended, total = len(self._sender.served), len(self._sender.requests)
            failed = len(self._sender.failures)
            self._on_progress(ended / total, f"{ended} of {total} requests" + (f", {failed} failed" if failed else ""))


def run_load(
    endpoint: Endpoint,
    requests: Sequence[Request],
    *,
    concurrency: int | None = None,
    timeout_s: float = 600.0,
    stall_s: float = 60.0,
    max_requests: int = 10_000,
    on_progress: OnProgress | None = None,
) -> LoadResult:
    """Send the requests and measure what comes back.

    concurrency: None for an open loop, in which each is sent at its arrival_s whether or not earlier ones have been
    answered; n for a closed loop of n at a time, in their order, arrivals ignored. timeout_s: the whole load ends then
    with what was served, and the result says so. stall_s: a request without a byte for so long has failed; time in the
    server's queue counts. on_progress is called on the calling thread.

    A request that fails is an error in the result. EndpointError: nothing listens there, or every request failed (it
    gives up after the first 20). LoadError: the server went away meanwhile; its ``.result`` holds what was served, as
    that of the KeyboardInterrupt does on Ctrl-C, which ends the load and closes its connections at once.
    """
    return Load(
        endpoint,
        requests,
        concurrency=concurrency,
        timeout_s=timeout_s,
        stall_s=stall_s,
        max_requests=max_requests,
        on_progress=on_progress,
    ).run()


class _FewAtATime(selectors.DefaultSelector):
    """Tokens that were generated together come together, and an event loop takes in all that has come before it looks
    at its clock: what is due meanwhile would be late. What is left out here is ready again at the loop's next turn."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)[:EVENTS_AT_A_TIME]


def _event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(_FewAtATime())


@contextlib.contextmanager
def _little_disturbance() -> Iterator[None]:
    """No garbage collection, which stops every thread, and short turns for the other threads of this process."""
    collecting, switch_s = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(min(switch_s, SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        if collecting:
            gc.enable()


def _carry(error: KeyboardInterrupt, result: LoadResult) -> None:
    error.result = result  # type: ignore[attr-defined]
    error.add_note(
        f"The load was interrupted: {len(result.ok)} of {result.num_requests} requests had been served, and "
        "sys.last_value.result holds them. Keep a Load and call its run() to have them as load.result."
    )
