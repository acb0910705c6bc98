"""The stall differential: the same steps on synthetic, cached and cold data; their differences are the three times.

After DS-Analyzer (Mohan et al., VLDB 2021), which compares whole epochs; here the runs take turns, so that a machine
that drifts treats all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.errors import UsageError
from labkit.hardware import machine
from labkit.loader.feeding import Feed
from labkit.loader.pipeline import InputPipeline
from labkit.measure import Measured, OnProgress, alternate

__all__ = ["StallDifferential", "stall_differential"]

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StallDifferential:
    """Seconds of a step in each round: on one batch that is there, on data that is near, on data that must come."""

    synthetic_s: tuple[float, ...]
    cached_s: tuple[float, ...]
    cold_s: tuple[float, ...]

    @property
    def ingest(self) -> Measured:
        """Seconds of a step whose data is there."""
        return _measured("ingest", np.array(self.synthetic_s))

    @property
    def prep(self) -> Measured:
        """Seconds a batch to decode and collate it: cached less synthetic, within each round."""
        return _measured("prep", np.array(self.cached_s) - np.array(self.synthetic_s))

    @property
    def fetch(self) -> Measured:
        """Seconds a batch to fetch it: cold less cached."""
        return _measured("fetch", np.array(self.cold_s) - np.array(self.cached_s))

    def pipeline(self, *, link_s: float = 0.0) -> InputPipeline:
        """The model with these times. link_s: bytes of a batch ÷ the storage's rate. A difference below zero is noise
        about zero, and counts as that."""
        fetch_s = max(0.0, self.fetch.value)
        parts = {"ingest_s": self.ingest.value, "prep_s": max(0.0, self.prep.value), "fetch_s": fetch_s}
        return InputPipeline(**parts, link_s=min(link_s, fetch_s))


def stall_differential(
    step: Callable[[Any], object],
    cached: Iterable[Any],
    cold: Iterable[Any],
    *,
    rounds: int = 6,
    steps: int = 4,
    warmup: int = 1,
    clock: Clock = time.perf_counter,
    on_progress: OnProgress | None = None,
) -> StallDifferential:
    """Take ``steps`` steps on each kind of data, ``rounds`` times in turns. Synthetic is one batch of the cached data,
    again and again.

    cached, cold: loaders without workers, whose work stands in the step where it can be told apart.
    """
    if steps < 1:
        raise UsageError(f"A round takes at least one step; got {steps}.")
    for loader in (cached, cold):
        if getattr(loader, "num_workers", 0):
            raise UsageError("The differential needs loaders without workers, whose work hides beside the step. "
                             "Make them with num_workers=0; the model then says what workers give.")  # fmt: skip
    with Feed(cached) as near, Feed(cold) as far:
        held = next(iter(cached))  # from a pass of its own: near and far stay at the same batch

        def several(next_batch: Callable[[], Any]) -> Callable[[], object]:
            return lambda: [step(next_batch()) for _ in range(steps)]

        kinds = {"synthetic": several(lambda: held), "cached": several(near.next), "cold": several(far.next)}
        times = alternate(kinds, rounds=rounds, warmup=warmup, clock=clock, on_progress=on_progress)
    a_step = {kind: tuple(seconds / steps for seconds in of_kind) for kind, of_kind in times.items()}
    return StallDifferential(synthetic_s=a_step["synthetic"], cached_s=a_step["cached"], cold_s=a_step["cold"])


def _measured(name: str, seconds: Any) -> Measured:
    return Measured.from_samples(name, seconds, "s", machine=machine().id)
