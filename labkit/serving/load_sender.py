"""The sending side of a load, on an event loop of its own: who is sent when, and when it has to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp

from labkit.serving.client import Served
from labkit.serving.client_body import Dialect, request_body
from labkit.serving.client_exchange import Exchange, timing, why_not_connected
from labkit.serving.endpoint import Endpoint
from labkit.serving.requests import Request

__all__ = ["Sender", "Why"]

Why = Literal["", "deadline", "gone", "hopeless", "interrupted"]
CUT = {
    "deadline": "cut off: the load's timeout_s was over",
    "gone": "cut off: the server had gone",
    "hopeless": "cut off: every request before had failed",
    "interrupted": "cut off: the load was interrupted",
}
KEEP_ALIVE_S = 3.0  # under uvicorn's and vLLM's 5 s: a connection that the server is just closing must not be used
OPENED_BEFOREHAND = 128  # to open one when a request is due takes three times as many turns of the event loop
CONNECT_S = 5.0
AHEAD_S = 0.01  # how long before it is due a request is prepared, up to writing it
HOPELESS = 20
CHECK_S = 1.0
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


class Sender:
    """Sends the requests and collects what came. Everything but ``stop`` happens on the event loop's thread.

    why: what ended it early, "" while nothing has. served: what ended, in that order. start_s: on ``clock``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        requests: Sequence[Request],
        *,
        concurrency: int | None,
        timeout_s: float,
        stall_s: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.endpoint, self.requests, self.concurrency = endpoint, requests, concurrency
        self.timeout_s, self.stall_s = timeout_s, stall_s
        self.dialect = Dialect()
        self.served: list[Served] = []
        self.failures: list[str] = []
        self.why: Why = ""
        self.unreachable = ""
        self.start_s: float | None = None
        self.end_s: float | None = None
        self.started_unix_s = time.time()
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._checking = asyncio.Lock()
        self._checked_at = float("-inf")

    def now_s(self) -> float:
        """Seconds after the load's start."""
        return 0.0 if self.start_s is None else self._clock() - self.start_s

    def stop(self, why: Why) -> None:
        """End the load at once, from any thread; the first reason stays."""
        self.why = self.why or why
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._stopped.set)

    async def run(self) -> None:
        """The whole load; returns when every connection is closed."""
        self._loop = asyncio.get_running_loop()
        if self.why:
            return
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(self.stall_s, CONNECT_S), sock_read=self.stall_s, ceil_threshold=float("inf")
        )
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=KEEP_ALIVE_S)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.endpoint.api_key:
            headers["Authorization"] = f"Bearer {self.endpoint.api_key}"
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=headers, trace_configs=[timing()]
        ) as session:
            work = asyncio.create_task(self._work(session))
            stopped = asyncio.create_task(self._stopped.wait())
            done, _ = await asyncio.wait({work, stopped}, timeout=self.timeout_s, return_when="FIRST_COMPLETED")
            if not done:
                self.why = self.why or "deadline"
            for task in (work, stopped):
                task.cancel()
            outcome, _ = await asyncio.gather(work, stopped, return_exceptions=True)
            self.end_s = self._clock()
        if isinstance(outcome, Exception):
            raise outcome

    async def _work(self, session: aiohttp.ClientSession) -> None:
        self.unreachable = await self._no_connection()
        if self.unreachable:
            return
        await self._open_connections(session)
        self.started_unix_s, self.start_s = time.time(), self._clock()
        if self.concurrency is None:
            await self._open_loop(session)
        else:
            await self._closed_loop(session, self.concurrency)

    async def _open_loop(self, session: aiohttp.ClientSession) -> None:
        """Each at its arrival, whether or not those before it were answered."""
        async with asyncio.TaskGroup() as group:
            for index, request in sorted(enumerate(self.requests), key=lambda pair: pair[1].arrival_s):
                body = request_body(self.endpoint, request, extras=self.dialect.extras)
                if (left := request.arrival_s - AHEAD_S - self.now_s()) > 0:
                    await asyncio.sleep(left)
                group.create_task(self._serve(session, index, request, request.arrival_s, body))

    async def _closed_loop(self, session: aiohttp.ClientSession, concurrency: int) -> None:
        """So many at a time: a request is due when the one before it in its slot has ended."""
        todo = iter(enumerate(self.requests))

        async def slot(todo: Iterator[tuple[int, Request]]) -> None:
            for index, request in todo:
                body = request_body(self.endpoint, request, extras=self.dialect.extras)
                await self._serve(session, index, request, self.now_s(), body)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(self.requests))):
                group.create_task(slot(todo))

    async def _serve(
        self, session: aiohttp.ClientSession, index: int, request: Request, scheduled_s: float, body: bytes
    ) -> None:
        if self.why:
            return
        exchange = Exchange(index, request, scheduled_s=scheduled_s, clock=self.now_s, stall_s=self.stall_s)
        try:
            await exchange.run(session, self.endpoint, self.dialect, body)
        except asyncio.CancelledError:
            if self.now_s() >= scheduled_s:  # before that it was only being prepared
                self.served.append(exchange.served(CUT.get(self.why, "cut off")))
            raise
        served = exchange.served()
        self.served.append(served)
        if served.ok:
            return
        self.failures.append(served.error)
        if exchange.lost:
            await self._check_the_server()
        if len(self.failures) == len(self.served) >= HOPELESS:
            self.stop("hopeless")

    async def _check_the_server(self) -> None:
        """After a lost connection, once for all that were lost together: does it still accept new ones?"""
        async with self._checking:
            if self.why or self._clock() - self._checked_at < CHECK_S:
                return
            gone = await self._no_connection()
            if not gone:  # a process that is dying closes its listener and its connections in any order
                await asyncio.sleep(0.2)
                gone = await self._no_connection()
            self._checked_at = self._clock()
        if gone:
            self.stop("gone")

    async def _no_connection(self) -> str:
        """Why no connection can be opened; "" when one can."""
        parts = urlsplit(self.endpoint.base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except TimeoutError:
            return f"no answer in {CONNECT_S:g} s"
        except OSError as error:
            return "" if error.errno in OUT_OF_FILES else why_not_connected(error)
        writer.transport.abort()
        return ""

    async def _open_connections(self, session: aiohttp.ClientSession) -> None:
        """So that the first requests need not: requests that cost nothing, all at once, each on its own connection."""

        async def touch() -> None:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
                limit: Any = aiohttp.ClientTimeout(total=min(self.stall_s, CONNECT_S))
                async with session.get(f"{self.endpoint.base_url}/models", timeout=limit) as response:
                    await response.read()

        num_connections = min(len(self.requests), self.concurrency or OPENED_BEFOREHAND, OPENED_BEFOREHAND)
        await asyncio.gather(*(touch() for _ in range(num_connections)))
