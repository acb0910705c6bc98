"""What one request got: when it was due, when it was sent, and when its tokens came back, on the load's own clock."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Served"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request that was sent, whole or not. Every time is in seconds after the load's start.

    scheduled_s: when it was due; sent_s: when the client began to write it (where no connection could be had: when it
    tried). token_times_s and token_counts: one entry for each read that brought tokens, and how many it brought.
    first_token_s: None when no token came. token_ids: empty when the server gives none. text: what was generated.
    error: what went wrong, "" when the answer is whole; then the other fields hold what came before.
    """

    index: int
    prompt_tokens: int
    token_ids: tuple[int, ...]
    text: str
    output_tokens: int
    scheduled_s: float
    sent_s: float
    token_times_s: tuple[float, ...]
    token_counts: tuple[int, ...]
    finished_s: float
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def first_token_s(self) -> float | None:
        return self.token_times_s[0] if self.token_times_s else None

    @property
    def ttft_s(self) -> float:
        """Time to the first token since the request was due, so that a late client does not flatter the server
        ("coordinated omission", Tene 2013); NaN when none came."""
        return self.token_times_s[0] - self.scheduled_s if self.token_times_s else float("nan")

    @property
    def total_s(self) -> float:
        """From when it was due to the end of the answer."""
        return self.finished_s - self.scheduled_s

    @property
    def lag_s(self) -> float:
        """The client's own lateness: how long after it was due the request began to be written."""
        return self.sent_s - self.scheduled_s

    @property
    def inter_token_s(self) -> tuple[float, ...]:
        """The gaps between tokens. k tokens that came together g seconds after the ones before them count as k gaps of
        g / k; those that came with the first token have no gap. The sum is the time from the first token to the last.
        """
        pairs = zip(self.token_times_s, self.token_times_s[1:], self.token_counts[1:], strict=False)
        return tuple((after - before) / count for before, after, count in pairs for _ in range(count))
