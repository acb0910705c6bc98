"""What is asked of an engine or of a server: a prompt, how long the answer may be, and when it comes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labkit.errors import UsageError

__all__ = ["Request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """prompt: token ids; max_tokens: where the answer ends at the latest; arrival_s: after the load's start.

    ignore_eos: the answer goes on to max_tokens, as in a benchmark that fixes its output lengths.
    temperature: 0 takes the most likely token, above 0 one is drawn.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    arrival_s: float = 0.0
    ignore_eos: bool = True
    temperature: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", tuple(self.prompt))
        if not self.prompt:
            raise UsageError(
                "A prompt needs at least one token; got none. Give the text to the model's tokenizer first."
            )
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1; got {self.max_tokens}.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature must be finite and not negative; got {self.temperature}.")
        if not (math.isfinite(self.arrival_s) and self.arrival_s >= 0):
            raise UsageError(f"arrival_s must be finite and not negative; got {self.arrival_s}.")
