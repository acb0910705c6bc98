"""The server to measure: the one that LABKIT_ENDPOINT names, else a vLLM of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labkit.errors import EndpointError
from labkit.measure import Timeline
from labkit.serving.endpoint import Endpoint, endpoint_from_environment
from labkit.serving.metrics import Metrics, fetch_metrics
from labkit.serving.vllm import VLLMServer
from labkit.serving.vllm_http import get_text

__all__ = ["RemoteServer", "open_server"]

ANSWER_S = 10.0
CURE = "Start that server, correct LABKIT_ENDPOINT, or unset it: the lab then starts a vLLM of its own."


class RemoteServer:
    """A server that somebody else started. ignored_options: what was asked of a server and this one decides itself."""

    def __init__(self, endpoint: Endpoint, *, ignored_options: tuple[str, ...] = ()) -> None:
        self.endpoint = endpoint
        self.ignored_options = ignored_options

    @property
    def startup(self) -> Timeline | None:
        """Always None: nothing was started here."""
        return None

    def metrics(self) -> Metrics:
        """What the server counts about itself, everybody's requests included. EndpointError when it tells nothing."""
        return fetch_metrics(self.endpoint)

    def check(self) -> None:
        """EndpointError when it does not answer, or does not serve the endpoint's model."""
        try:
            text = get_text(self.endpoint, self.endpoint.base_url + "/models", ANSWER_S)
        except EndpointError as error:
            raise EndpointError(f"LABKIT_ENDPOINT does not answer: {error} {CURE}") from error
        try:
            names = [str(model["id"]) for model in json.loads(text)["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise EndpointError(
                f"{self.endpoint.base_url}/models lists no models as OpenAI's API does. "
                f"LABKIT_ENDPOINT looks like http://127.0.0.1:8000/v1. {CURE}"
            ) from error
        if self.endpoint.model not in names:
            raise EndpointError(
                f"{self.endpoint.base_url} serves {', '.join(names) or 'no model'}, not {self.endpoint.model}. "
                "Set LABKIT_ENDPOINT_MODEL to one that it serves."
            )


@contextmanager
def open_server(model: str | Path, **options: Any) -> Iterator[VLLMServer | RemoteServer]:
    """A server as ``.endpoint``, ``.metrics()`` and ``.startup``: LABKIT_ENDPOINT's, else ``VLLMServer(model, …)``.

    The remote one serves its own model with its own options; its ``ignored_options`` names those given here. The
    errors are VLLMServer's, or EndpointError when the named server does not answer.
    """
    endpoint = endpoint_from_environment()
    if endpoint is None:
        with VLLMServer(model, **options) as server:
            yield server
        return
    remote = RemoteServer(endpoint, ignored_options=tuple(options))
    remote.check()
    yield remote
