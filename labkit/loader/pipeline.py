"""The model of an input pipeline: three times of a batch give the step, its stall, and what each fix would buy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from labkit.errors import UsageError

__all__ = ["InputPipeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPipeline:
    """Seconds of one batch: to train on it (ingest), to decode it on one core (prep), to fetch it alone (fetch).

    link_s: the part of fetch_s that all readers share, bytes ÷ the link's rate; the rest is latency, which readers
    wait for side by side. With workers, the step is the slowest of what goes on beside each other; without, the sum.
    """

    ingest_s: float
    prep_s: float
    fetch_s: float
    link_s: float = 0.0

    def __post_init__(self) -> None:
        times = (self.ingest_s, self.prep_s, self.fetch_s, self.link_s)
        if not all(0 <= seconds < math.inf for seconds in times) or not self.ingest_s:
            raise UsageError(f"Times of a batch are finite, not negative, and the ingest above 0; got {self}.")
        if self.link_s > self.fetch_s:
            raise UsageError(f"link_s is a part of fetch_s; got {self.link_s} s of {self.fetch_s} s.")

    def load_s(self, num_workers: int, prep_cores: int) -> float:
        """Seconds a batch that the loader needs: each worker fetches and then decodes, W of them beside each other."""
        if num_workers < 1 or prep_cores < 1:
            raise UsageError(f"A loader has at least one worker and one core; got {num_workers} and {prep_cores}.")
        in_turn = (self.fetch_s + self.prep_s) / num_workers
        return max(in_turn, self.link_s, self.prep_s / min(num_workers, prep_cores))

    def step_s(self, num_workers: int, *, prep_cores: int = 1) -> float:
        """Seconds of a step. prep_cores: cores that the device's own thread leaves to the workers."""
        if num_workers == 0:
            return self.ingest_s + self.prep_s + self.fetch_s
        return max(self.ingest_s, self.load_s(num_workers, prep_cores))

    def stall_s(self, num_workers: int, *, prep_cores: int = 1) -> float:
        """Seconds of a step in which the device waits."""
        return self.step_s(num_workers, prep_cores=prep_cores) - self.ingest_s

    def bottleneck(self, num_workers: int, *, prep_cores: int = 1) -> str:
        """ "ingest", "prep" or "fetch": what the step would feel first."""
        if num_workers and self.load_s(num_workers, prep_cores) <= self.ingest_s:
            return "ingest"
        parts = {"prep": self.prep_s, "fetch": self.fetch_s} | ({} if num_workers else {"ingest": self.ingest_s})
        return max(parts, key=lambda part: parts[part])

    def fixes(self, num_workers: int, *, prep_cores: int = 1) -> dict[str, float]:
        """Times as fast as now, by fix."""
        now = self.step_s(num_workers, prep_cores=prep_cores)
        tried = {
            "a device twice as fast": (replace(self, ingest_s=self.ingest_s / 2), num_workers),
            "one worker more": (self, num_workers + 1),
            "a cache beside the device": (replace(self, fetch_s=0.0, link_s=0.0), num_workers),
            "data prepared beforehand": (replace(self, prep_s=0.0), num_workers),
            "cache and prepared": (replace(self, prep_s=0.0, fetch_s=0.0, link_s=0.0), num_workers),
        }
        return {name: now / fixed.step_s(workers, prep_cores=prep_cores) for name, (fixed, workers) in tried.items()}
