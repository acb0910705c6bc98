"""Who computes in the next step: running sequences first, then whom the policy admits, as far as blocks reach."""

from __future__ import annotations

from collections import deque

from labkit.errors import UsageError
from labkit.serving.engine.blocks import BlockPool
from labkit.serving.engine.policies import Policy
from labkit.serving.engine.sequence import Sequence

__all__ = ["Scheduler"]


class Scheduler:
    """First come, first served; the one admitted last gives way when blocks run out (preemption by recompute)."""

    def __init__(self, policy: Policy, pool: BlockPool, *, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        if max_num_seqs < 1:
            raise UsageError(f"max_num_seqs must be at least 1; got {max_num_seqs}.")
        self.policy, self.pool = policy, pool
        self.max_num_seqs, self.max_num_batched_tokens = max_num_seqs, max_num_batched_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def check(self, sequence: Sequence) -> None:
        """UsageError if it could never be served: refused at the start, not found stuck later."""
        prompt, answer = len(sequence.request.prompt), sequence.request.max_tokens
        if self.pool.blocks_for(prompt + answer) > self.pool.num_blocks:
            held = self.pool.num_blocks * self.pool.block_size
            raise UsageError(
                f"Request {sequence.index} is longer than the cache: {prompt} prompt tokens, up to {answer} new ones; "
                f"all blocks together hold {held}. Shorten it, or give the engine more num_blocks."
            )
        if prompt + answer > self.max_num_batched_tokens:
            raise UsageError(
                f"Request {sequence.index} has {prompt} prompt tokens and up to {answer} new: too many for a step; "
                f"max_num_batched_tokens is {self.max_num_batched_tokens}. Raise it, or shorten the request."
            )

    def schedule(self) -> list[Sequence]:
        """The sequences of the next step, each with blocks for its new tokens."""
        batch: list[Sequence] = []
        budget = self.max_num_batched_tokens
        for sequence in list(self.running):
            while sequence in self.running and not self.pool.grow(sequence.blocks, len(sequence.tokens)):
                self._preempt(self.running[-1])  # the youngest, and in the end itself: the older ones stand before it
            if sequence in self.running:
                batch.append(sequence)
                budget -= sequence.num_new
        for _ in range(self.policy(len(self.running), len(self.waiting), self.max_num_seqs)):
            first = self.waiting[0]
            if first.num_new > budget or not self.pool.grow(first.blocks, len(first.tokens)):
                break
            self.waiting.popleft()
            first.slot = min(set(range(self.max_num_seqs)) - {s.slot for s in self.running})
            self.running.append(first)
            batch.append(first)
            budget -= first.num_new
        return batch

    def retire(self, sequence: Sequence) -> None:
        """Its answer is complete: the slot and the blocks are free."""
        self.running.remove(sequence)
        self.pool.release(sequence.blocks)
        sequence.slot = -1

    def _preempt(self, sequence: Sequence) -> None:
        self.retire(sequence)
        sequence.num_cached = 0  # its keys and values are computed again when it comes back
        sequence.num_preemptions += 1
        self.waiting.appendleft(sequence)
