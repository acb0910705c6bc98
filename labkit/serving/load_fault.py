"""A server that was never there, that went away, or that answers nothing as it should: one error for the whole load."""

from __future__ import annotations

from labkit.errors import EndpointError, LoadError
from labkit.serving.load_result import LoadResult
from labkit.serving.load_sender import Sender

__all__ = ["raise_for_the_server"]


def raise_for_the_server(sender: Sender, result: LoadResult) -> None:
    """EndpointError or LoadError when the server is what the whole load failed by, with ``result`` in it."""
    url, failures = sender.endpoint.base_url, sender.failures
    if sender.unreachable:
        raise EndpointError(
            f"No server accepts connections at {url} ({sender.unreachable}). Start it, or wait until it has loaded "
            "its model, and look whether host and port are right.",
            result=result,
        )
    if sender.why == "gone":
        num_ok, num_requests = len(result.ok), result.num_requests
        raise LoadError(
            f"The server at {url} stopped accepting connections {result.duration_s:.1f} s into the load: {num_ok} "
            f"of {num_requests} requests were served, {num_requests - num_ok} were not ({result.num_unsent} of "
            f"them not sent). Seen first: {failures[0]}. Look at the end of the server's log (out of memory?), "
            "start it again and repeat the load; this error's .result holds what was served.",
            result=result,
        )
    if failures and not result.ok:
        rest = f" The {result.num_unsent} others were not sent." if result.num_unsent else ""
        raise EndpointError(
            f"Every request to {url} that has ended failed, {len(failures)} of {len(failures)}; the first: "
            f"{failures[0]}.{rest}",
            result=result,
        )
