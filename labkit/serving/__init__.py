"""Serving a language model: the lab's own engine, vLLM's server, and the load that measures both."""

from labkit.serving.arrivals import poisson_arrivals, uniform_arrivals, with_arrivals
from labkit.serving.client import Served
from labkit.serving.endpoint import Endpoint, endpoint_from_environment
from labkit.serving.load import Load, run_load
from labkit.serving.load_result import LoadResult
from labkit.serving.metrics import Metrics, fetch_metrics, parse_metrics
from labkit.serving.metrics_histogram import Histogram
from labkit.serving.requests import Request
from labkit.serving.throughput import StepTime, fit_step_time
from labkit.serving.vllm import VLLMServer
from labkit.serving.vllm_open import RemoteServer, open_server
from labkit.serving.workload import QUESTIONS, chat_requests, output_lengths

__all__ = [
    "QUESTIONS",
    "Endpoint",
    "Histogram",
    "Load",
    "LoadResult",
    "Metrics",
    "RemoteServer",
    "Request",
    "Served",
    "StepTime",
    "VLLMServer",
    "chat_requests",
    "endpoint_from_environment",
    "fetch_metrics",
    "fit_step_time",
    "open_server",
    "output_lengths",
    "parse_metrics",
    "poisson_arrivals",
    "run_load",
    "uniform_arrivals",
    "with_arrivals",
]
