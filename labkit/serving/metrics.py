"""What a server counts about itself, under the names that vLLM publishes at ``/metrics``.

The names and their meaning: vLLM 0.32, vllm/v1/metrics/loggers.py, ``PrometheusStatLogger``. Counters and histograms
count from the server's start, so a load is measured as ``server.metrics()`` after it minus the one before it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, fields, replace

from labkit.errors import EndpointError, NotMeasurableError, UsageError
from labkit.serving.endpoint import Endpoint
from labkit.serving.metrics_histogram import Histogram
from labkit.serving.metrics_text import Samples, parse_samples
from labkit.serving.vllm_http import get_text

__all__ = ["Metrics", "fetch_metrics", "parse_metrics"]

PREFIX = "vllm:"
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Gauges, counters and histograms of one moment, over all engines; None where the server publishes none.

    kv_cache_usage_perc is a share, 0 to 1, whatever its name says. prefix_cache_queries and hits count tokens.
    """

    num_requests_running: int | None = None
    num_requests_waiting: int | None = None
    kv_cache_usage_perc: float | None = None
    prompt_tokens_total: int | None = None
    generation_tokens_total: int | None = None
    request_success_total: int | None = None
    num_preemptions_total: int | None = None
    prefix_cache_queries_total: int | None = None
    prefix_cache_hits_total: int | None = None
    time_to_first_token_seconds: Histogram | None = None
    inter_token_latency_seconds: Histogram | None = None
    e2e_request_latency_seconds: Histogram | None = None
    request_queue_time_seconds: Histogram | None = None
    request_prefill_time_seconds: Histogram | None = None
    request_decode_time_seconds: Histogram | None = None
    iteration_tokens_total: Histogram | None = None

    def value(self, name: str) -> float:
        """The gauge or counter of that name. NotMeasurableError when this server does not publish it."""
        found = self._published(name)
        if isinstance(found, Histogram):
            raise UsageError(f"{name} is a histogram, not a number. Use .histogram({name!r}), its mean or a quantile.")
        return found

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name. NotMeasurableError when this server does not publish it."""
        found = self._published(name)
        if not isinstance(found, Histogram):
            raise UsageError(f"{name} is a number, not a histogram. Use .value({name!r}).")
        return found

    def _published(self, name: str) -> float | Histogram:
        if name not in NAMES:
            raise UsageError(f"There is no metric {name!r}. Use one of: {', '.join(NAMES)}.")
        found: float | Histogram | None = getattr(self, name)
        if found is None:
            raise NotMeasurableError(f"This server does not publish {PREFIX}{name}; vLLM 0.32 does.")
        return found

    def __sub__(self, before: Metrics) -> Metrics:
        """What was counted since ``before``; gauges keep the later value. UsageError when the server began anew."""
        changed: dict[str, int | Histogram | None] = {}
        for name in (name for name in NAMES if name not in GAUGES):
            later, earlier = getattr(self, name), getattr(before, name)
            if later is None or earlier is None:
                changed[name] = None
            elif not isinstance(later, Histogram) and later < earlier:
                raise UsageError(
                    f"{name} went back, from {earlier} to {later}. Subtract the earlier from the later, of one server "
                    "that was not restarted between."
                )
            else:
                changed[name] = later - earlier
        return replace(self, **changed)  # type: ignore[arg-type]


NAMES = tuple(field.name for field in fields(Metrics))
HISTOGRAMS = tuple(field.name for field in fields(Metrics) if "Histogram" in str(field.type))


def parse_metrics(text: str) -> Metrics:
    """The page that ``/metrics`` serves. EndpointError when it is not Prometheus' text format or was cut off."""
    samples = parse_samples(text)
    read: dict[str, float | Histogram | None] = {}
    try:
        for name in NAMES:
            if name in HISTOGRAMS:
                read[name] = _histogram(samples, PREFIX + name)
            else:
                values = [value for _, value in samples.get(PREFIX + name, ())]
                if name == "kv_cache_usage_perc":
                    read[name] = sum(values) / len(values) if values else None
                else:
                    read[name] = int(sum(values)) if values else None
    except (ValueError, OverflowError, KeyError) as error:  # a NaN counter, a bucket without a bound, counts that fall
        raise EndpointError(f"The server's metric {PREFIX}{name} does not make sense: {error}") from error
    return Metrics(**read)  # type: ignore[arg-type]


def fetch_metrics(endpoint: Endpoint, timeout_s: float = 5) -> Metrics:
    """Ask the server at ``/metrics``. EndpointError when it does not answer in time, or not with metrics."""
    return parse_metrics(get_text(endpoint, endpoint.root + "/metrics", timeout_s))


def _histogram(samples: Samples, name: str) -> Histogram | None:
    """The series of all engines added up; None when there are none."""
    counts: defaultdict[float, float] = defaultdict(float)
    for labels, value in samples.get(name + "_bucket", ()):
        counts[float(labels["le"])] += value
    if not counts:
        return None
    bounds = sorted(counts)
    return Histogram(
        sum=math.fsum(value for _, value in samples[name + "_sum"]),
        count=int(sum(value for _, value in samples[name + "_count"])),
        upper_bounds=tuple(bounds),
        cumulative_counts=tuple(int(counts[bound]) for bound in bounds),
    )
