"""Metrics: a page of vLLM read back, compared with Prometheus' own parser, and the arithmetic of histograms."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from time import sleep

import numpy as np
import pytest

from labkit import launch
from labkit.errors import EndpointError, NotMeasurableError, UsageError
from labkit.serving.endpoint import Endpoint
from labkit.serving.metrics import HISTOGRAMS, NAMES, Metrics, fetch_metrics, parse_metrics
from labkit.serving.metrics_histogram import Histogram
from labkit.serving.metrics_text import parse_samples

PAGE = (Path(__file__).parent / "vllm_data/metrics-0.32.0.txt").read_text()


def test_a_page_of_vllm() -> None:
    """After one completion of 5 prompt tokens and 8 new ones."""
    metrics = parse_metrics(PAGE)
    assert (metrics.num_requests_running, metrics.num_requests_waiting, metrics.kv_cache_usage_perc) == (0, 0, 0.0)
    assert (metrics.prompt_tokens_total, metrics.generation_tokens_total, metrics.request_success_total) == (5, 8, 1)
    assert (metrics.num_preemptions_total, metrics.prefix_cache_queries_total, metrics.prefix_cache_hits_total) == (
        0, 5, 0,
    )  # fmt: skip
    assert metrics.histogram("inter_token_latency_seconds").count == 7
    assert metrics.histogram("inter_token_latency_seconds").mean == pytest.approx(0.19830580900088535 / 7)
    assert metrics.histogram("time_to_first_token_seconds").sum == 0.0606689453125
    assert metrics.histogram("iteration_tokens_total").mean == 13 / 8
    assert 0.06 < metrics.histogram("time_to_first_token_seconds").quantile(0.5) < 0.08
    assert all(getattr(metrics, name) is not None for name in NAMES)


def test_as_prometheus_own_parser_reads_it() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    hard = (
        PAGE + 'odd_name{a="quote \\" brace } comma , equals =",b="line\\nfeed \\\\"} -1.5e+3 1700000000000\nbare NaN\n'
    )
    expected = sorted(
        (sample.name, sorted(sample.labels.items()), repr(float(sample.value)))
        for family in parser.text_string_to_metric_families(hard)
        for sample in family.samples
    )
    found = parse_samples(hard)
    assert expected == sorted(
        (name, sorted(labels.items()), repr(value)) for name, series in found.items() for labels, value in series
    )


def test_several_engines_are_added_up() -> None:
    metrics = parse_metrics(PAGE + PAGE.replace('engine="0"', 'engine="1"'))
    assert metrics.generation_tokens_total == 16
    assert metrics.histogram("inter_token_latency_seconds").count == 14
    shares = 'vllm:kv_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="1"} 0.4\n'
    assert parse_metrics(shares).kv_cache_usage_perc == pytest.approx(0.3)


def test_what_another_server_lacks_is_none_and_said_when_asked_for() -> None:
    metrics = parse_metrics('up 1\nvllm:num_requests_running{engine="0"} 3\n')
    assert metrics.value("num_requests_running") == metrics.num_requests_running == 3
    assert metrics.generation_tokens_total is metrics.time_to_first_token_seconds is None
    with pytest.raises(NotMeasurableError, match="does not publish vllm:generation_tokens_total"):
        metrics.value("generation_tokens_total")
    with pytest.raises(NotMeasurableError, match="does not publish vllm:e2e_request_latency_seconds"):
        metrics.histogram("e2e_request_latency_seconds")
    with pytest.raises(UsageError, match=r"no metric 'ttft'.*num_requests_running"):
        metrics.value("ttft")
    with pytest.raises(UsageError, match="is a histogram, not a number"):
        parse_metrics(PAGE).value("iteration_tokens_total")
    with pytest.raises(UsageError, match="is a number, not a histogram"):
        metrics.histogram("num_requests_running")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("# only comments\n", "empty"),
        ("<!doctype html>\n", "line 1 is '<!doctype html>'.*such as vLLM"),
        ("vllm:num_requests_running 1\nvllm:num_req", "cut off; they end with 'vllm:num_req'"),
        ("vllm:num_requests_running many\n", "line 1"),
        ('vllm:num_requests_running{engine="0} 1\n', "line 1"),
        ("vllm:num_requests_running{engine=0} 1\n", "line 1"),
        ("vllm:num_requests_running NaN\n", "vllm:num_requests_running does not make sense"),
        ('vllm:iteration_tokens_total_bucket{engine="0"} 1\n', "does not make sense"),
        ('vllm:iteration_tokens_total_bucket{le="+Inf"} 1\n', "does not make sense"),
        ("\x00\ufffd\ufffd\n", "line 1"),
    ],
)
def test_garbage_is_said(text: str, said: str) -> None:
    with pytest.raises(EndpointError, match=said):
        parse_metrics(text)


def test_a_page_cut_anywhere_is_read_or_refused() -> None:
    """Cut at a line's end it is a page of fewer families; cut elsewhere, or inside a histogram, it is refused."""
    for cut in random.Random(0).sample(range(1, len(PAGE)), 400):
        try:
            parse_metrics(PAGE[:cut])
            whole = True
        except EndpointError:
            whole = False
        assert PAGE[cut - 1] == "\n" or not whole


def test_the_difference_of_two_moments() -> None:
    before = parse_metrics(PAGE)
    after = parse_metrics(
        PAGE.replace("generation_tokens_total{engine=\"0\",model_name=\"smol\"} 8.0", "generation_tokens_total 20.0")
        .replace('num_requests_running{engine="0",model_name="smol"} 0.0', "num_requests_running 2.0")
    )  # fmt: skip
    change = after - before
    assert (change.generation_tokens_total, change.prompt_tokens_total, change.num_requests_running) == (12, 0, 2)
    assert [change.histogram(name).count for name in HISTOGRAMS] == [0] * len(HISTOGRAMS)
    assert math.isnan(change.histogram("iteration_tokens_total").mean)
    assert (before - Metrics()).generation_tokens_total is None
    with pytest.raises(UsageError, match="generation_tokens_total went back, from 20 to 8"):
        before - after


def histogram(values: list[float], bounds: tuple[float, ...]) -> Histogram:
    edges = (*bounds, math.inf)
    counts = tuple(sum(value <= bound for value in values) for bound in edges)
    return Histogram(sum=sum(values), count=len(values), upper_bounds=edges, cumulative_counts=counts)


def test_quantiles_are_at_most_a_bucket_wrong() -> None:
    draw = np.random.default_rng(0)
    values = draw.uniform(0, 10, 5000).tolist()
    fine = histogram(values, tuple(np.linspace(0.5, 10, 20)))
    for q in (0.01, 0.1, 0.5, 0.9, 0.99, 1.0):
        assert fine.quantile(q) == pytest.approx(np.quantile(values, q), abs=0.5)
    assert fine.mean == pytest.approx(np.mean(values))
    even = histogram([0.5, 1.5, 2.5, 3.5], (1.0, 2.0, 3.0, 4.0))
    assert [even.quantile(q) for q in (0, 0.25, 0.5, 0.625, 1)] == [0, 1, 2, 2.5, 4]
    assert histogram([100.0], (1.0, 2.0)).quantile(0.5) == 2.0  # beyond the last finite bound
    assert math.isnan(histogram([], (1.0,)).quantile(0.5))
    with pytest.raises(UsageError, match="between 0 and 1; got 99"):
        even.quantile(99)


def test_the_arithmetic_of_histograms() -> None:
    first, second = histogram([0.5, 1.5], (1.0, 2.0)), histogram([0.5, 1.5, 1.7, 9.0], (1.0, 2.0))
    assert (second - first) == histogram([1.7, 9.0], (1.0, 2.0))
    assert first + (second - first) == second
    with pytest.raises(UsageError, match="went back, from 4 to 2"):
        first - second
    for combine in (Histogram.__sub__, Histogram.__add__):
        with pytest.raises(UsageError, match="other buckets"):
            combine(first, histogram([], (3.0,)))
    for wrong in ({"upper_bounds": (1.0,)}, {"cumulative_counts": (2, 1, 2)}, {"count": 5}):
        with pytest.raises(UsageError, match="histogram"):
            Histogram(**{**{name: getattr(first, name) for name in Histogram.__slots__}, **wrong})


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/slow/metrics":
            sleep(1)
        known = self.path == "/metrics" and self.headers["Authorization"] == "Bearer key"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(PAGE.encode() if known else b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_they_are_fetched(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # nothing of this machine goes through it
    endpoint = Endpoint(base_url=address + "/v1", model="smol", api_key="key")
    assert fetch_metrics(endpoint) == parse_metrics(PAGE)
    with pytest.raises(EndpointError, match=r"answered 401 Unauthorized.*LABKIT_ENDPOINT_KEY"):
        fetch_metrics(Endpoint(base_url=address + "/v1", model="smol"))
    with pytest.raises(EndpointError, match=r"did not answer within 0\.1 s"):
        fetch_metrics(Endpoint(base_url=address + "/slow/v1", model="smol"), timeout_s=0.1)
    nobody = f"http://127.0.0.1:{launch.free_port()}/v1"
    with pytest.raises(EndpointError, match=r"cannot be reached.*Is the server running"):
        fetch_metrics(Endpoint(base_url=nobody, model="smol"))
