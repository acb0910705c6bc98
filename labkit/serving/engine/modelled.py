"""The same engine on a modelled clock: step times from a fit instead of a model, so that any size can be tried."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

from labkit.errors import UsageError
from labkit.serving.engine.sequence import Sequence

__all__ = ["ModelledRunner"]


class ModelledRunner:
    """step_time_s(num_decodes, num_prompt_tokens) -> seconds. Give its ``clock`` and ``sleep`` to ``run_engine``.

    Every token is 0; the policies, the scheduler and the blocks are the real ones.
    """

    def __init__(self, step_time_s: Callable[[int, int], float], *, num_blocks: int, block_size: int = 16) -> None:
        self.step_time_s, self.num_blocks, self.block_size = step_time_s, num_blocks, block_size
        self._now_s = 0.0

    def step(self, batch: Seq[Sequence], num_decodes: int) -> list[int]:
        took_s = self.step_time_s(num_decodes, sum(s.num_new for s in batch[num_decodes:]))
        if not took_s >= 0:
            raise UsageError(f"A modelled step must take 0 s or more; {num_decodes} decodes took {took_s} s.")
        self._now_s += took_s
        return [0] * len(batch)

    def clock(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
