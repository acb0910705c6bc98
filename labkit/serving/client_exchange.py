"""One streaming request to ``/v1/completions``, and what came of it.

While an answer streams, only its bytes and their times are kept; they are read afterwards, a little at a time, because
whatever holds the event loop makes the requests beside this one late.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from types import SimpleNamespace

import aiohttp

from labkit.serving.client import Served
from labkit.serving.client_body import EXTRAS, Dialect, request_body
from labkit.serving.client_stream import Answer, shortened
from labkit.serving.endpoint import Endpoint
from labkit.serving.requests import Request

__all__ = ["Exchange", "timing", "why_not_connected"]

PORTIONS_AT_A_TIME = 32
AWAKE_S = 0.001  # the event loop rounds its sleeps up to the next millisecond
ANSWER_BYTES, TOKEN_BYTES, PROMPT_TOKEN_BYTES = 1 << 20, 4096, 32  # an endless answer must not fill the memory


def timing() -> aiohttp.TraceConfig:
    """Holds an Exchange, given as ``trace_request_ctx``, until it is due, when only its bytes are left to be written,
    and tells it that time. All else that a request costs comes before: it would make this one and its neighbours late.
    """
    config = aiohttp.TraceConfig()

    async def writing(session: object, context: SimpleNamespace, params: object) -> None:
        exchange = context.trace_request_ctx
        if exchange is not None and exchange.sent_s is None:
            await exchange.wait_until_due()
            exchange.sent_s = exchange.clock()

    config.on_request_chunk_sent.append(writing)
    return config


class Exchange:
    """A request on its way. ``served`` tells what came so far, at any time, also after it was cancelled.

    lost: the connection failed, so that the server may have gone; error: "" or what went wrong.
    """

    def __init__(
        self, index: int, request: Request, *, scheduled_s: float, clock: Callable[[], float], stall_s: float
    ) -> None:
        self.index, self.request, self.scheduled_s, self.clock, self.stall_s = (
            index, request, scheduled_s, clock, stall_s
        )  # fmt: skip
        self.begun_s = max(clock(), scheduled_s)
        self.sent_s: float | None = None
        self.lost = False
        self.error = ""
        self._portions: list[tuple[float, bytes]] = []
        self._num_read = 0
        self._answer = Answer()

    async def wait_until_due(self) -> None:
        while (left := self.scheduled_s - self.clock()) > 0:
            await asyncio.sleep(left - AWAKE_S if left > AWAKE_S else 0)

    async def run(self, session: aiohttp.ClientSession, endpoint: Endpoint, dialect: Dialect, body: bytes) -> None:
        """Send it and take the whole answer. Whatever a server can do wrong ends in ``error``, not in an exception."""
        try:
            await self._exchange(session, endpoint, dialect, body)
            while self._num_read < len(self._portions):
                self._read(PORTIONS_AT_A_TIME)
                await asyncio.sleep(0)
        except aiohttp.ConnectionTimeoutError:
            self.lost, self.error = True, f"no connection to {endpoint.base_url} in {self.stall_s:g} s"
        except aiohttp.ServerTimeoutError:
            self.error = f"the server stalled: no byte for {self.stall_s:g} s"
        except aiohttp.ClientConnectorError as error:
            self.lost, self.error = True, f"no connection to {endpoint.base_url}: {why_not_connected(error.os_error)}"
        except aiohttp.ClientResponseError as error:
            self.error = f"the answer is not HTTP: {shortened(error.message)}"
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
            self.lost, self.error = True, "the server closed the connection before the answer was finished"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.error = f"the request failed: {type(error).__name__}: {shortened(str(error))}"

    async def _exchange(
        self, session: aiohttp.ClientSession, endpoint: Endpoint, dialect: Dialect, body: bytes
    ) -> None:
        extras = dialect.extras
        if (refusal := await self._post(session, endpoint, body)) is None:
            return
        status, told = refusal
        if extras and status in (400, 422) and any(name in told for name in EXTRAS):
            plain = request_body(endpoint, self.request, extras=False)
            if (again := await self._post(session, endpoint, plain)) is None:
                dialect.lose_extras(f"HTTP {status}")
                return
            status, told = again
        self.error = _refused(status, told, endpoint)

    async def _post(self, session: aiohttp.ClientSession, endpoint: Endpoint, body: bytes) -> tuple[int, str] | None:
        """None when the server took it; else the status and what it said."""
        url = f"{endpoint.base_url}/completions"
        async with session.post(url, data=body, allow_redirects=False, trace_request_ctx=self) as response:
            content = response.content
            if response.status != 200:
                return response.status, (await content.read(8192)).decode("utf-8", "replace")
            if response.content_type != "text/event-stream":
                began = shortened(await content.read(1024))
                self.error = (
                    f"the answer is {response.content_type} where text/event-stream was wanted; it begins {began}. "
                    "Does base_url lead to an OpenAI-compatible server, with /v1 at its end?"
                )
                response.close()
                return None
            keep, clock, room = self._portions.append, self.clock, self._most_bytes
            while portion := await content.readany():
                keep((clock(), portion))
                room -= len(portion)
                if room < 0:
                    self.error = f"the answer went on past {self._most_bytes} bytes, far more than its tokens need"
                    response.close()
                    break
        return None

    @property
    def _most_bytes(self) -> int:
        return ANSWER_BYTES + TOKEN_BYTES * self.request.max_tokens + PROMPT_TOKEN_BYTES * len(self.request.prompt)

    def _read(self, num_portions: int | None = None) -> None:
        end = len(self._portions) if num_portions is None else self._num_read + num_portions
        for time_s, portion in self._portions[self._num_read : end]:
            self._answer.feed(time_s, portion)
        self._num_read = min(end, len(self._portions))

    def served(self, cut: str = "") -> Served:
        """What came; to be asked once. cut: why it was ended from our side, unless it had failed or ended by itself."""
        self._read()
        answer = self._answer
        error = answer.error
        answer.close()
        if not error and not (answer.done and answer.times_s):
            error = self.error or cut or answer.error
        if error and answer.counts:
            error += f" ({sum(answer.counts)} of at most {self.request.max_tokens} tokens had come)"
        ended = max(self.clock(), self.scheduled_s) if error else self._portions[-1][0]
        return Served(
            index=self.index,
            prompt_tokens=len(self.request.prompt),
            token_ids=answer.token_ids,
            text=answer.text,
            output_tokens=sum(answer.counts),
            scheduled_s=self.scheduled_s,
            sent_s=self.begun_s if self.sent_s is None else self.sent_s,
            token_times_s=tuple(answer.times_s),
            token_counts=tuple(answer.counts),
            finished_s=ended,
            error=error,
        )


def why_not_connected(error: OSError) -> str:
    """The system's words: asyncio has only "Connect call failed" for a refusal. A name that is unknown has its own."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{os.strerror(error.errno)}. Raise the limit (ulimit -n), or send fewer requests at once"
    return os.strerror(error.errno) if isinstance(error, ConnectionError) and error.errno else str(error)


def _refused(status: int, told: str, endpoint: Endpoint) -> str:
    try:
        answer = json.loads(told)
        error = answer.get("error", answer)
        told = str(error.get("message") or error.get("detail") or told) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        pass  # it is no JSON, or no object: shown as it is
    cure = {
        401: " Set the endpoint's api_key (LABKIT_ENDPOINT_KEY).",
        403: " Set the endpoint's api_key (LABKIT_ENDPOINT_KEY).",
        404: f" Does it serve a model called {endpoint.model!r}? {endpoint.base_url}/models lists the names.",
    }.get(status, "")
    return f"HTTP {status}: {shortened(told)}.{cure}"
