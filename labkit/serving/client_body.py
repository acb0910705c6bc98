"""What is posted to ``/v1/completions``, and how much of it the server understands."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from labkit.serving.endpoint import Endpoint
from labkit.serving.requests import Request

__all__ = ["EXTRAS", "Dialect", "request_body"]

EXTRAS = ("ignore_eos", "return_token_ids")  # vLLM's own; other servers ignore or refuse them


@dataclass(slots=True)
class Dialect:
    """What the server understands, found out once a load. notes: what was found, for the reader."""

    extras: bool = True
    notes: list[str] = field(default_factory=list)

    def lose_extras(self, why: str) -> None:
        if self.extras:
            self.extras = False
            self.notes.append(
                f"The server refused {' and '.join(EXTRAS)} ({why}): requests go without them, answers may end before "
                "max_tokens, and the first requests include the time of the refusal."
            )


def request_body(endpoint: Endpoint, request: Request, *, extras: bool) -> bytes:
    """The JSON of a streamed completion of token ids."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "prompt": request.prompt,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if extras:
        body |= {"ignore_eos": request.ignore_eos, "return_token_ids": True}
    return json.dumps(body, separators=(",", ":")).encode()
