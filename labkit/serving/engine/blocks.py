"""KV blocks: memory for a fixed number of tokens each, handed out one by one (paged attention, Kwon et al. 2023)."""

from __future__ import annotations

from collections import deque

from labkit.errors import UsageError

__all__ = ["BlockPool"]


class BlockPool:
    """num_blocks blocks of block_size tokens. A sequence holds as many as its tokens need, in any place."""

    def __init__(self, num_blocks: int, block_size: int = 16) -> None:
        if num_blocks < 1 or block_size < 1:
            raise UsageError(f"A KV cache needs at least one block of one token; got {num_blocks} of {block_size}.")
        self.num_blocks, self.block_size = num_blocks, block_size
        self._free = deque(range(num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_held(self) -> int:
        return self.num_blocks - len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def grow(self, held: list[int], num_tokens: int) -> bool:
        """Extend ``held`` until it takes num_tokens; False, with nothing changed, when too few blocks are free."""
        missing = self.blocks_for(num_tokens) - len(held)
        if missing > len(self._free):
            return False
        held.extend(self._free.popleft() for _ in range(missing))
        return True

    def release(self, held: list[int]) -> None:
        """Give all of ``held`` back."""
        self._free.extend(held)
        held.clear()
