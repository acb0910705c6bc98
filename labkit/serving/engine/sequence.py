"""One request on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from labkit.serving.requests import Request

__all__ = ["Sequence"]


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """tokens: the prompt and what was generated; num_cached: how many of them have their keys and values in blocks."""

    index: int
    request: Request
    tokens: list[int]
    num_cached: int = 0
    blocks: list[int] = field(default_factory=list)
    slot: int = -1
    token_times_s: list[float] = field(default_factory=list)
    num_preemptions: int = 0

    @classmethod
    def of(cls, index: int, request: Request) -> Sequence:
        return cls(index=index, request=request, tokens=list(request.prompt))

    @property
    def num_new(self) -> int:
        """Tokens that the next step computes: the whole prompt at first (prefill), then one at a time (decode)."""
        return len(self.tokens) - self.num_cached

    @property
    def output(self) -> tuple[int, ...]:
        return tuple(self.tokens[len(self.request.prompt) :])

    def is_finished(self, eos_token_id: int | None) -> bool:
        done = len(self.tokens) - len(self.request.prompt)
        ended = not self.request.ignore_eos and done > 0 and self.tokens[-1] == eos_token_id
        return done >= self.request.max_tokens or ended
