"""What a load got: every request with its times, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.measure import Measured, Span, Timeline
from labkit.serving.client import Served
from labkit.serving.endpoint import Endpoint
from labkit.stats import percentile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LoadResult"]

Array = NDArray[np.float64]
TIMES = ("inter_token_s", "lag_s", "total_s", "ttft_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """One load. served: every request that was sent, by index, those that failed or were cut off included.

    num_requests: how many there were to send. concurrency: None for an open loop. started_unix_s: wall clock, seconds
    since 1970. duration_s: from the start to the end of the last answer, or to where the load was cut off.
    deadline_hit: it was cut off by its timeout_s. notes: what else the reader must know.
    """

    endpoint: Endpoint
    served: tuple[Served, ...]
    num_requests: int
    concurrency: int | None
    started_unix_s: float
    duration_s: float
    deadline_hit: bool = False
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> tuple[Served, ...]:
        """Those with a whole answer; the times below are theirs."""
        return tuple(one for one in self.served if one.ok)

    @property
    def errors(self) -> tuple[Served, ...]:
        """Those without."""
        return tuple(one for one in self.served if not one.ok)

    @property
    def num_unsent(self) -> int:
        return self.num_requests - len(self.served)

    @property
    def output_tokens(self) -> int:
        """Every token that came, those of unfinished answers too."""
        return sum(one.output_tokens for one in self.served)

    @property
    def tokens_per_s(self) -> float:
        """output_tokens / duration_s, the ramp at both ends included."""
        return self.output_tokens / self.duration_s if self.duration_s else 0.0

    @property
    def requests_per_s(self) -> float:
        """Whole answers / duration_s."""
        return len(self.ok) / self.duration_s if self.duration_s else 0.0

    @property
    def ttft_s(self) -> Array:
        return self._of(lambda one: one.ttft_s)

    @property
    def total_s(self) -> Array:
        return self._of(lambda one: one.total_s)

    @property
    def lag_s(self) -> Array:
        return self._of(lambda one: one.lag_s)

    @property
    def inter_token_s(self) -> Array:
        """Every gap of every whole answer."""
        return np.array([gap for one in self.ok for gap in one.inter_token_s], dtype=np.float64)

    def _of(self, value: Callable[[Served], float]) -> Array:
        return np.array([value(one) for one in self.ok], dtype=np.float64)

    def percentile(self, name: str, q: float) -> float:
        """The q-th percentile (0 to 100) of ttft_s, inter_token_s, total_s or lag_s, in seconds."""
        if name not in TIMES:
            raise UsageError(f"A load has the times {', '.join(TIMES)}; got {name!r}.")
        times: Array = getattr(self, name)
        if not len(times):
            raise UsageError(f"{name} needs at least one whole answer that has it; this load has none. See .errors.")
        try:
            return percentile(times, q)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def measured(self, *, machine: str = "") -> dict[str, Measured]:
        """Medians over requests with their intervals: ttft_s, inter_token_s, total_s; and tokens_per_s.

        inter_token_s is of each request's mean gap, since gaps within an answer depend on one another. tokens_per_s is
        one number of one load, and its interval covers nothing: repeat the load for a spread.
        """
        if not self.ok:
            raise UsageError("A load without a whole answer has no figures; see its .errors.")
        gaps = np.array([np.mean(one.inter_token_s) for one in self.ok if one.inter_token_s], dtype=np.float64)
        samples: dict[str, Array] = {"ttft_s": self.ttft_s, "inter_token_s": gaps, "total_s": self.total_s}
        figures = {
            name: Measured.from_samples(name, values, "s", machine=machine)
            for name, values in samples.items()
            if len(values)
        }
        rate = Measured.from_samples("tokens_per_s", [self.tokens_per_s], "tokens/s", machine=machine)
        return figures | {"tokens_per_s": rate}

    def frame(self) -> pd.DataFrame:
        """One row a request that was sent; inter_token_s is the mean gap, NaN where there is none."""
        import pandas as pd

        columns = ("index", "prompt_tokens", "output_tokens", "scheduled_s", "sent_s", "first_token_s", "finished_s")
        rows = [
            {name: getattr(one, name) for name in columns}
            | {"ttft_s": one.ttft_s, "total_s": one.total_s, "lag_s": one.lag_s}
            | {"inter_token_s": float(np.mean(one.inter_token_s)) if one.inter_token_s else float("nan")}
            | {"error": one.error}
            for one in self.served
        ]
        names = [*columns, "ttft_s", "total_s", "lag_s", "inter_token_s", "error"]
        return pd.DataFrame(rows, columns=names).astype({"first_token_s": float})

    def timeline(self, title: str = "") -> Timeline:
        """A lane a slot, so many as were under way at once: waiting (due, not yet sent), prefill (until the first
        token: the server's queue and its prefill, which a client cannot tell apart) and decode."""
        free_at: list[float] = []
        spans: list[Span] = []
        for one in sorted(self.served, key=lambda one: one.scheduled_s):
            slot = next((n for n, free_s in enumerate(free_at) if free_s <= one.scheduled_s), len(free_at))
            free_at[slot : slot + 1] = [one.finished_s]
            first = one.finished_s if one.first_token_s is None else one.first_token_s
            for name, start, end in (
                ("waiting", one.scheduled_s, one.sent_s),
                ("prefill", one.sent_s, first),
                ("decode", first, one.finished_s),
            ):
                if end > start:
                    args = {"request": one.index} | ({"error": one.error} if one.error else {})
                    spans.append(
                        Span(lane=f"slot {slot}", name=name, start_s=start, end_s=end, category=name, args=args)
                    )
        return Timeline(spans=tuple(spans), title=title)
