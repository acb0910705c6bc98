"""Where an OpenAI-compatible server answers: one that this process owns, or one that LABKIT_ENDPOINT names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from labkit.errors import UsageError

__all__ = ["Endpoint", "endpoint_from_environment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """base_url as OpenAI's clients want it (``http://127.0.0.1:8000/v1``); model: the name that it serves."""

    base_url: str
    model: str
    api_key: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"An endpoint's base_url looks like http://127.0.0.1:8000/v1; got {self.base_url!r}.")
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))

    @property
    def root(self) -> str:
        """The server without ``/v1``, where ``/health`` and ``/metrics`` are."""
        return self.base_url.removesuffix("/v1")


def endpoint_from_environment() -> Endpoint | None:
    """The endpoint that LABKIT_ENDPOINT (a base_url) and LABKIT_ENDPOINT_MODEL name; None when none is named.

    LABKIT_ENDPOINT_KEY is sent as the bearer token where the endpoint wants one.
    """
    url = os.environ.get("LABKIT_ENDPOINT", "")
    if not url:
        return None
    model = os.environ.get("LABKIT_ENDPOINT_MODEL", "")
    if not model:
        raise UsageError(f"LABKIT_ENDPOINT is {url}, and LABKIT_ENDPOINT_MODEL must name the model that it serves.")
    return Endpoint(base_url=url, model=model, api_key=os.environ.get("LABKIT_ENDPOINT_KEY", ""))
