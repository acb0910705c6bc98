"""How fast storage must be: everybody writes at once, and then nobody for a long time."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.sizes import need_above_0

__all__ = ["BYTES_PER_PARAMETER", "Burst"]

# bfloat16 weights, and in float32 the master weights and AdamW's two moments: 2 + 4 + 4 + 4.
BYTES_PER_PARAMETER = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """state_bytes: one checkpoint, all ranks together; window_s: until it must be on the storage; interval_s: of
    computing between two writes; writers: that share it."""

    state_bytes: float
    window_s: float
    interval_s: float
    writers: int = 1

    def __post_init__(self) -> None:
        need_above_0(**{name: getattr(self, name) for name in self.__slots__})

    @property
    def burst_bytes_per_s(self) -> float:
        """What the storage must take while a checkpoint is written."""
        return self.state_bytes / self.window_s

    @property
    def writer_bytes_per_s(self) -> float:
        return self.burst_bytes_per_s / self.writers

    @property
    def sustained_bytes_per_s(self) -> float:
        """The same bytes over the whole time from one write to the next."""
        return self.state_bytes / (self.interval_s + self.window_s)

    @property
    def peak_to_mean(self) -> float:
        """How many times the mean the storage must be built for: 1 + interval ÷ window."""
        return self.burst_bytes_per_s / self.sustained_bytes_per_s
