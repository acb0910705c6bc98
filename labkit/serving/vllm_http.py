"""One GET to a server: its text, or an EndpointError that says what is wrong."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from labkit.errors import EndpointError
from labkit.serving.endpoint import Endpoint

__all__ = ["get_text"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def get_text(endpoint: Endpoint, url: str, timeout_s: float) -> str:
    """The body, as text. timeout_s bounds each wait for the server. EndpointError when it is no answer of 200."""
    headers = {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
    # A proxy of the environment knows nothing of this machine's loopback.
    own = [urllib.request.ProxyHandler({})] if urlsplit(url).hostname in LOOPBACK else []
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.build_opener(*own).open(request, timeout=timeout_s) as reply:
            return str(reply.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        error.close()
        cure = " Set LABKIT_ENDPOINT_KEY." if error.code in (401, 403) else ""
        raise EndpointError(f"{url} answered {error.code} {error.reason}, not 200.{cure}") from None
    except TimeoutError:
        raise EndpointError(
            f"{url} did not answer within {timeout_s:g} s. Is the server overloaded or stuck?"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            reason = f"no connection within {timeout_s:g} s"
        raise EndpointError(f"{url} cannot be reached ({reason}). Is the server running?") from error
