"""A panel over an input pipeline: workers, prefetch, storage and format in, the three rates and the training's out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labkit.errors import UsageError
from labkit.loader.pipeline import InputPipeline
from labkit.loader.simulated_feed import simulate_feed
from labkit.plots.input import plot_input_rates
from labkit.plots.picture import Picture
from labkit.widgets.controls import Choice, Slider
from labkit.widgets.panel import Panel

__all__ = ["InputFormat", "starvation_explorer"]

MOST_WORKERS, MOST_PREFETCH, STEPS, WARMUP = 16, 16, 400, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFormat:
    """What the explorer must know of a format: seconds of one core and bytes a sample, samples that one request brings,
    at most a thousand batches."""

    prep_s: float
    num_bytes: float
    samples_per_request: float = 1

    def __post_init__(self) -> None:
        if self.prep_s < 0 or self.num_bytes <= 0 or self.samples_per_request < 1:
            raise UsageError(f"A format takes time, has bytes, and brings a sample a request or more; got {self}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rates:
    stages: Mapping[str, float]  # samples/s of each alone
    training: float
    bottleneck: str


def starvation_explorer(
    formats: Mapping[str, InputFormat], ingest_s: float, *, batch_size: int, num_cores: int = 1
) -> Panel:
    """A Panel. ingest_s: seconds a batch on the device; num_cores: cores that the workers share."""
    if not formats:
        raise UsageError("The starvation explorer needs at least one format; got none.")

    def compute(format: str, workers: float, prefetch: float, rate: float, latency: float) -> _Rates:
        return _explored(
            formats[format], ingest_s, batch_size, num_cores, int(workers), int(prefetch), rate * 1e6, latency / 1e3
        )

    return Panel(
        compute,
        _draw,
        {
            "format": Choice(options=tuple(formats), label="format"),
            "workers": Slider(min=0, max=MOST_WORKERS, value=1, step=1, label="workers"),
            "prefetch": Slider(min=1, max=MOST_PREFETCH, value=2, step=1, label="batches ahead, a worker"),
            "rate": Slider(min=0.1, max=1000, value=10, log=True, label="storage", unit="MB/s"),
            "latency": Slider(min=0.1, max=100, value=2, log=True, label="latency", unit="ms a request"),
        },
        title="What one device is fed, by workers, storage and format",
    )


def _explored(
    of: InputFormat, ingest_s: float, batch: int, cores: int, workers: int, prefetch: int, rate: float, latency_s: float
) -> _Rates:
    link_s = batch * of.num_bytes / rate
    fetch_s = link_s + latency_s * batch / of.samples_per_request
    times = InputPipeline(ingest_s=ingest_s, prep_s=batch * of.prep_s, fetch_s=fetch_s, link_s=link_s)
    at_once = max(1, round(of.samples_per_request / batch))
    options = {"num_workers": workers, "prefetch": prefetch, "batches_per_request": at_once, "prep_cores": cores}
    fed = simulate_feed(times, STEPS, **options)
    lanes = max(1, workers)
    stages = {
        "ingest": batch / ingest_s,
        "prep": batch * min(lanes, cores) / max(batch * of.prep_s, 1e-9),
        "fetch": batch / max(times.link_s, fetch_s / lanes),
    }
    training = batch / fed.step_s(WARMUP)
    return _Rates(stages=stages, training=training, bottleneck=min(stages, key=lambda stage: stages[stage]))


def _draw(found: _Rates) -> Picture:
    share = found.training / found.stages["ingest"]
    title = f"◇ The device works {share:.0%} of the time; {found.bottleneck} is the slowest stage"
    return plot_input_rates(found.stages, found.training, unit="samples/s", title=title)
