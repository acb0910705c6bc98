"""A real vLLM: started twice in a whole session, once to be used and once to be killed with its owner."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit import launch
from labkit.errors import EndpointError, UsageError
from labkit.serving.vllm import VLLMServer
from labkit.serving.vllm_open import RemoteServer, open_server

pytestmark = pytest.mark.timeout(600)  # a start takes one minute, and several where the machine is busy


def complete(server: VLLMServer, prompt: str, max_tokens: int) -> dict[str, Any]:
    body = {"model": server.endpoint.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    request = urllib.request.Request(
        server.endpoint.base_url + "/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
        return answer


def test_a_completion_is_answered_and_counted(vllm_server: VLLMServer) -> None:
    assert vllm_server.endpoint.model == "SmolLM2-135M-Instruct"
    before = vllm_server.metrics()
    answer = complete(vllm_server, "The capital of France is", 8)
    assert "Paris" in answer["choices"][0]["text"]
    # The engine's own count of a request can come a moment after its answer.
    until = time.monotonic() + 10
    while (counted := vllm_server.metrics() - before).request_success_total != 1 and time.monotonic() < until:
        time.sleep(0.05)
    assert (counted.request_success_total, counted.generation_tokens_total) == (1, 8)
    assert counted.prompt_tokens_total == answer["usage"]["prompt_tokens"]
    assert counted.num_requests_running == counted.num_requests_waiting == counted.num_preemptions_total == 0
    assert counted.histogram("time_to_first_token_seconds").count == 1
    assert counted.histogram("inter_token_latency_seconds").count == 7
    latency = counted.histogram("e2e_request_latency_seconds")
    assert latency.sum >= counted.histogram("request_decode_time_seconds").sum > 0
    assert counted.histogram("iteration_tokens_total").sum == answer["usage"]["total_tokens"]
    assert all(vllm_server.metrics().value(name) >= 0 for name in ("kv_cache_usage_perc", "prefix_cache_hits_total"))


def test_the_phases_of_its_start(vllm_server: VLLMServer) -> None:
    spans = vllm_server.startup.of("vLLM")
    assert spans[0].start_s == 0
    assert all(one.end_s == next.start_s for one, next in itertools.pairwise(spans))
    names = [span.name for span in spans]
    assert names[:4] == ["process and imports", "engine process", "worker process", "loading weights"]
    assert names[-1] == "API server"
    assert "other" not in names


def test_it_is_listed_while_it_runs(vllm_server: VLLMServer, families: Any) -> None:
    assert vllm_server.pid in {process.pid for process in families(vllm_server.pid).members}
    assert "Application startup complete" in vllm_server.log_tail(100)
    assert vllm_server.command[vllm_server.command.index("--served-model-name") + 1] == vllm_server.endpoint.model


def test_an_endpoint_of_the_environment_is_used(vllm_server: VLLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ENDPOINT", vllm_server.endpoint.base_url)
    monkeypatch.setenv("LABKIT_ENDPOINT_MODEL", vllm_server.endpoint.model)
    with open_server("/no/such/folder", max_num_seqs=4) as server:
        assert isinstance(server, RemoteServer)
        assert server.endpoint == vllm_server.endpoint
        assert server.startup is None
        assert server.ignored_options == ("max_num_seqs",)
        assert server.metrics().num_requests_running == 0
    monkeypatch.setenv("LABKIT_ENDPOINT_MODEL", "gpt-99")
    with pytest.raises(EndpointError, match=r"serves SmolLM2-135M-Instruct, not gpt-99.*LABKIT_ENDPOINT_MODEL"):
        open_server("x").__enter__()
    monkeypatch.setenv("LABKIT_ENDPOINT", vllm_server.endpoint.root + "/wrong")
    with pytest.raises(EndpointError, match=r"wrong/models answered 404.*unset it"):
        open_server("x").__enter__()


def test_an_endpoint_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ENDPOINT", f"http://127.0.0.1:{launch.free_port()}/v1")
    with pytest.raises(UsageError, match="LABKIT_ENDPOINT_MODEL must name"):
        open_server("x").__enter__()
    monkeypatch.setenv("LABKIT_ENDPOINT_MODEL", "smol")
    with pytest.raises(EndpointError, match=r"LABKIT_ENDPOINT does not answer.*cannot be reached.*lab then starts"):
        open_server("x").__enter__()


def test_without_an_endpoint_a_server_is_started(
    fake: Callable[..., VLLMServer], monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[float], bool]
) -> None:
    monkeypatch.delenv("LABKIT_ENDPOINT", raising=False)
    monkeypatch.setattr("labkit.serving.vllm_open.VLLMServer", lambda model, **options: fake(model, **options))
    with open_server("works", max_num_seqs=4) as server:
        assert server.startup is not None
        assert server.metrics().num_requests_running == 0
    assert nothing_left(0)


OWNER = """
import sys
from labkit.serving.vllm import VLLMServer
with VLLMServer(sys.argv[1], kv_cache_bytes=2**28, max_num_seqs=4) as server:
    print("port", server.endpoint.root.rpartition(":")[2], server.pid, flush=True)
    sys.stdin.read()
"""


def test_an_owner_that_is_killed_takes_it_along(
    smol: Path, families: Any, vllm_server: VLLMServer, lab_home: Path
) -> None:
    command = [sys.executable, "-c", OWNER, str(smol)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        watchdog = threading.Timer(400, owner.kill)
        watchdog.start()
        assert owner.stdout is not None
        found = re.match(r"port (\d+) (\d+)", owner.stdout.readline())
        watchdog.cancel()
        assert found
        family = families(int(found[2]))
        assert len(family.members) >= 4  # guard, API server, engine, worker
        owner.kill()
        began = time.monotonic()
        assert family.gone_within(5), family.living()
        assert launch.port_is_free(int(found[1]))
        assert time.monotonic() - began < 5
    assert list((lab_home / "processes").glob("*")) == []
