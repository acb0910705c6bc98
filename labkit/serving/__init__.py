"""Serving a language model: the lab's own engine, vLLM's server, and the load that measures both."""

from labkit.serving.endpoint import Endpoint, endpoint_from_environment
from labkit.serving.requests import Request
from labkit.serving.throughput import StepTime, fit_step_time

__all__ = ["Endpoint", "Request", "StepTime", "endpoint_from_environment", "fit_step_time"]
