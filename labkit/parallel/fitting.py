"""Does a fully sharded fine-tune fit, and where it does not, what would make it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from labkit.errors import UsageError
from labkit.parallel.memory import MemoryUse, peak_memory
from labkit.parallel.shape import ModelShape
from labkit.units import GB

__all__ = ["RESERVE", "DataParallel", "check_fit", "what_would_fit"]

RESERVE = 0.1  # of a device's memory: context, kernels' workspaces, what an allocator cannot use
MOST_DEVICES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class DataParallel:
    """One model on ``world_size`` devices by sharded data parallelism alone."""

    shape: ModelShape
    world_size: int
    seq_len: int
    stage: int = 3
    micro_batch: int = 1
    precision: str = "bf16-18"
    recompute: str = "none"

    @property
    def memory(self) -> MemoryUse:
        return peak_memory(
            self.shape,
            seq_len=self.seq_len,
            micro_batch=self.micro_batch,
            dp=self.world_size,
            stage=self.stage,
            precision=self.precision,
            recompute=self.recompute,
        )

    def fits(self, device_bytes: float) -> bool:
        """Whether its peak leaves RESERVE of the device free."""
        return self.memory.total_bytes <= (1 - RESERVE) * device_bytes

    def __str__(self) -> str:
        devices = "device" if self.world_size == 1 else "devices"
        how = f"stage {self.stage}, micro-batch {self.micro_batch}, recompute {self.recompute}"
        return f"{self.world_size:,} {devices}, {how}"

    def changed(self, **changes: int | str) -> DataParallel:
        """The same with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]


def check_fit(plan: DataParallel, device_bytes: float) -> MemoryUse:
    """The plan's peak. UsageError where it does not fit: what is missing, and the smallest changes that would do."""
    if not 0 < device_bytes < float("inf"):
        raise UsageError(f"device_bytes must be finite and above 0; got {device_bytes!r}.")
    use = plan.memory
    if plan.fits(device_bytes):
        return use
    ways = [str(way) for way in what_would_fit(plan, device_bytes)]
    cure = f"What would: {'; '.join(ways)}." if ways else "Sharding data parallel alone cannot: split the layers too."
    raise UsageError(
        f"{plan} needs {use.total_bytes / GB:.1f} GB a device at its peak ({use.moment}); {device_bytes / GB:.1f} GB "
        f"less {RESERVE:.0%} in reserve are {(1 - RESERVE) * device_bytes / GB:.1f} GB. {cure}"
    )


def what_would_fit(plan: DataParallel, device_bytes: float) -> tuple[DataParallel, ...]:
    """The smallest change of each kind that fits, cheapest first: stage, micro-batch, recomputing, more devices."""
    return tuple(dict.fromkeys(way for ways in _changes(plan) if (way := _first(ways, device_bytes)) is not None))


def _changes(plan: DataParallel) -> Iterator[Iterator[DataParallel]]:
    yield (plan.changed(stage=stage) for stage in range(plan.stage + 1, 4))
    yield (plan.changed(stage=3, micro_batch=size) for size in range(plan.micro_batch - 1, 0, -1))
    yield (plan.changed(stage=3, recompute="full", micro_batch=size) for size in range(plan.micro_batch, 0, -1))
    for recompute in dict.fromkeys((plan.recompute, "full")):
        more = (plan.world_size * 2**doubling for doubling in range(1, 15))
        yield (plan.changed(stage=3, recompute=recompute, world_size=n) for n in more if n <= MOST_DEVICES)


def _first(ways: Iterator[DataParallel], device_bytes: float) -> DataParallel | None:
    return next((way for way in ways if way.fits(device_bytes)), None)
