"""Faults to inject: what happens, in which step, to whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labkit.errors import UsageError

__all__ = ["KINDS", "Fault", "draw_fault"]

# kind of fault -> the monitor that must name it
KINDS = {
    "straggler": "straggler",
    "NaN element": "non-finite",
    "flipped bit": "bit flip",
    "skipped shard": "skipped shard",
    "repeated shard": "repeated shard",
    "divergence": "divergence",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """kind: one of KINDS. rank: to whom (a divergence happens to all). size: the straggler's slowdown, or what the
    learning rate is multiplied by. position: which element, as a share of all; bit: of the mantissa, 0 lowest."""

    kind: str
    step: int
    rank: int = 0
    size: float = 1.3
    position: float = 0.5
    bit: int = 12

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"A fault is one of {', '.join(KINDS)}; got {self.kind!r}.")
        if self.step < 0 or self.rank < 0 or not self.size > 0 or not 0 <= self.position < 1:
            raise UsageError(
                f"A fault needs a step and a rank of at least 0, a size above 0 and a position in [0, 1); got {self}."
            )
        if not 0 <= self.bit < 23:
            raise UsageError(f"A float32 has mantissa bits 0 to 22; got bit {self.bit}.")

    @property
    def monitor(self) -> str:
        """The monitor that must name it."""
        return KINDS[self.kind]


def draw_fault(kind: str, seed: int, *, num_ranks: int, first_step: int, last_step: int) -> Fault:
    """A fault at a random step, to a random rank, in a random element and mantissa bit."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind) if kind in KINDS else 0])
    return Fault(
        kind=kind,
        step=int(rng.integers(first_step, last_step + 1)),
        rank=int(rng.integers(num_ranks)),
        size=60.0 if kind == "divergence" else 1.3,
        position=float(rng.random()),
        bit=int(rng.integers(23)),
    )
