"""A server of completions that behaves as the name of the model says: ``python fake_server.py PORT [--delay_s S]``.

A model is a mode with settings, ``good:gap_s=0.01,per_chunk=3``. GET /stats counts what the client did.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from typing import Any

from aiohttp import web

STATS: dict[str, Any] = {"requests": 0, "in_flight": 0, "max_in_flight": 0, "bodies": [], "cancelled": 0}


def token_ids(prompt: list[int], num_tokens: int) -> list[int]:
    return [(sum(prompt) + index) % 1000 for index in range(num_tokens)]


def settings_of(model: str) -> tuple[str, dict[str, float]]:
    mode, _, rest = model.partition(":")
    return mode, {name: float(value) for name, value in (part.split("=") for part in rest.split(",") if part)}


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def completions(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    STATS["requests"] += 1
    STATS["in_flight"] += 1
    STATS["max_in_flight"] = max(STATS["max_in_flight"], STATS["in_flight"])
    STATS["bodies"] = [*STATS["bodies"][-9:], body | {"authorization": request.headers.get("Authorization", "")}]
    try:
        return await answer(request, body)
    except (asyncio.CancelledError, ConnectionResetError):
        STATS["cancelled"] += 1
        raise
    finally:
        STATS["in_flight"] -= 1


async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    mode, settings = settings_of(body["model"])
    if mode == "http_500":
        return web.json_response({"error": {"message": "EngineDeadError: the engine has died"}}, status=500)
    if mode == "http_404":
        return web.json_response({"error": {"message": f"The model `{body['model']}` does not exist."}}, status=404)
    if mode == "html":
        return web.Response(text="<html><h1>It works!</h1></html>", content_type="text/html")
    if mode == "unknown_field_400" and "ignore_eos" in body:
        return web.json_response({"error": {"message": "Unrecognized request argument: ignore_eos"}}, status=400)
    if mode == "not_http":
        assert request.transport is not None
        request.transport.write(b"\x00\x01\x02 what is this?\r\n\r\n")
        request.transport.close()
        await asyncio.sleep(60)
    if mode == "flaky" and STATS["requests"] % 2:
        return web.json_response({"error": "now and then"}, status=500)
    kind = "application/json" if mode == "wrong_content_type" else "text/event-stream"
    response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-cache"})
    await response.prepare(request)
    if mode == "garbage":
        await response.write(b"data: {this is not JSON\n\n")
        return response
    if mode == "chat":
        await response.write(event({"choices": [{"delta": {"content": "hello"}}]}))
        return response
    if mode == "endless":
        while True:
            await response.write(b": nothing" * 10_000 + b"\n")
    if mode == "mid_error":
        await response.write(chunk(body, "one", [1], None))
        await response.write(event({"error": {"message": "out of KV blocks", "code": 500}}))
        return response
    await stream(request, response, body, mode, settings)
    return response


def chunk(body: dict[str, Any], text: str, ids: list[int], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish_reason}
    if body.get("return_token_ids"):
        choice["token_ids"] = ids
    return event({"object": "text_completion", "model": body["model"], "choices": [choice]})


async def stream(
    request: web.Request, response: web.StreamResponse, body: dict[str, Any], mode: str, settings: dict[str, float]
) -> None:
    ids = token_ids(body["prompt"], body["max_tokens"])
    known = body | {"return_token_ids": body.get("return_token_ids") and mode != "plain"}
    per_chunk = int(settings.get("per_chunk", 1))
    await asyncio.sleep(settings.get("first_s", 0.0))
    for start in range(0, len(ids), per_chunk):
        part = ids[start : start + per_chunk]
        last = start + per_chunk >= len(ids)
        await response.write(chunk(known, "".join(f" {token}" for token in part), part, "length" if last else None))
        sent = start + len(part)
        if mode == "stall" and sent >= settings.get("after", 1):
            await asyncio.sleep(600)
        if mode == "die" and sent >= settings.get("after", 1) and STATS["requests"] > settings.get("requests", 0):
            os._exit(3)
        if mode in ("drop", "end_early") and sent >= settings.get("after", 1):
            if mode == "drop":
                assert request.transport is not None
                request.transport.abort()
            return
        if gap_s := settings.get("gap_s", 0.0):
            await asyncio.sleep(gap_s)
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids), "total_tokens": 0}
    await response.write(event({"choices": [], "usage": usage}))
    await response.write(b"data: [DONE]\n\n")


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": []})


async def serve(port: int) -> None:
    app = web.Application()
    app.router.add_post("/v1/completions", completions)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def stats(request: web.Request) -> web.Response:
        assert runner.server is not None
        others = len(runner.server.connections) - 1
        return web.json_response(STATS | {"connections": others})

    app.router.add_get("/stats", stats)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    if "--delay_s" in sys.argv:
        time.sleep(float(sys.argv[-1]))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1])))
