"""Server-sent events, and the answer that an OpenAI-compatible completion streams with them.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html, of which only ``data`` matters here. The
chunks: vLLM 0.32, vllm/entrypoints/openai/completion/serving.py, ``completion_stream_generator``. A chunk's choice has
``text``, ``finish_reason`` and, when ``return_token_ids`` was asked for, ``token_ids``: several tokens in one chunk
when they were ready together, with an empty text while a character is incomplete. The last chunk has no choice and the
``usage``; then comes ``[DONE]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["Answer", "EventParser", "shortened"]

SHOWN_CHARS = 160


class EventParser:
    """Bytes in, in any portions; the data of each event out as soon as its empty line is there."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._begun = False
        self._data: list[bytes] = []

    def feed(self, portion: bytes) -> Iterator[bytes]:
        """The data of the events that this portion completes. An event that nothing completes is dropped."""
        if self._after_cr and portion.startswith(b"\n"):  # the second half of a line end
            portion = portion[1:]
            self._after_cr = False
        if not portion:
            return
        self._after_cr = portion.endswith(b"\r")
        lines = (self._rest + portion).splitlines(keepends=True)
        self._rest = b"" if lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        for ended in lines:
            line = ended.rstrip(b"\r\n")
            if not self._begun:
                self._begun, line = True, line.removeprefix(b"\xef\xbb\xbf")
            if not line:
                if self._data:
                    yield b"\n".join(self._data)
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                self._data.append(b"")


class Answer:
    """One streamed answer, put together from what came and when (s).

    Tokens that came in one read share its time and are one entry of ``times_s`` and ``counts``. error: the first thing
    that was wrong with it, or "".
    """

    def __init__(self) -> None:
        self._events = EventParser()
        self._chars: list[str] = []
        self._ids: list[int] = []
        self._finished_at: float | None = None
        self.times_s: list[float] = []
        self.counts: list[int] = []
        self.usage: dict[str, Any] = {}
        self.done = False
        self.error = ""

    @property
    def text(self) -> str:
        return "".join(self._chars)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Empty when the server gives none."""
        return tuple(self._ids)

    def feed(self, time_s: float, portion: bytes) -> None:
        """What one read brought."""
        for data in self._events.feed(portion):
            if self.error:
                return
            if data.strip() == b"[DONE]":
                self.done = True
                continue
            try:
                self._take(time_s, json.loads(data))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self.error = f"an event is no chunk of a completion: {shortened(data)}"

    def _take(self, time_s: float, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            told = chunk["error"]
            told = told.get("message") or told if isinstance(told, dict) else told
            self.error = f"the server reported an error: {shortened(str(told))}"
            return
        if chunk.get("usage"):
            self.usage = {name: int(chunk["usage"][name]) for name in ("prompt_tokens", "completion_tokens")}
        for choice in chunk["choices"][:1]:
            ids, text = [int(token) for token in choice.get("token_ids") or []], choice["text"] or ""
            self._chars.append(text + "")  # TypeError unless it is a string
            self._ids += ids
            if count := len(ids) or int(bool(text)):
                if self.times_s and self.times_s[-1] == time_s:
                    self.counts[-1] += count
                else:
                    self.times_s.append(time_s)
                    self.counts.append(count)
            if choice.get("finish_reason"):
                self.done, self._finished_at = True, time_s

    def close(self) -> None:
        """At the end of the stream: settle the counts, and see whether the answer is whole."""
        total = self.usage.get("completion_tokens", 0)
        if not self._ids and total:
            self._spread(total)
        if self.error:
            return
        if not self.done:
            self.error = "the server ended the stream before the answer was finished"
        elif not self.times_s:
            self.error = "the answer has no token"

    def _spread(self, total: int) -> None:
        """Without token ids a chunk's tokens are not known, only their total: the chunks share it evenly.

        An answer without any text (a lone end-of-sequence token) is dated by its finish.
        """
        if not self.times_s and self._finished_at is not None:
            self.times_s = [self._finished_at]
        chunks = len(self.times_s)
        ends = [-(-total * number // chunks) for number in range(chunks + 1)] if chunks else [0]
        shared = [(t, b - a) for t, a, b in zip(self.times_s, ends, ends[1:], strict=False) if b > a]
        self.times_s, self.counts = [t for t, _ in shared], [count for _, count in shared]


def shortened(text: str | bytes) -> str:
    """The beginning of what a server sent, on one line, quoted."""
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    flat = " ".join(decoded.split())
    return repr(flat if len(flat) <= SHOWN_CHARS else flat[:SHOWN_CHARS] + "…")
