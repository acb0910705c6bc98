"""Storage arithmetic: what a fleet asks of its storage, what that leaves of its speed, and what an hour costs."""

from __future__ import annotations

import math

from labkit.errors import UsageError

__all__ = ["fed_share", "fetch_s", "fleet_bandwidth", "price_of_useful_hour", "requests_in_flight"]


def fetch_s(num_bytes: float, num_requests: float, *, bytes_per_s: float, latency_s: float) -> float:
    """Seconds that one reader waits for bytes which it asks for in so many requests, one after another."""
    _positive(num_bytes=num_bytes, num_requests=num_requests, bytes_per_s=bytes_per_s)
    if not 0 <= latency_s < math.inf:
        raise UsageError(f"latency_s is at least 0 and finite; got {latency_s}.")
    return num_requests * latency_s + num_bytes / bytes_per_s


def fleet_bandwidth(accelerators: int, samples_per_s: float, bytes_per_sample: float) -> float:
    """Bytes/s that a storage must deliver: accelerators × samples/s of each × bytes of a sample."""
    _positive(accelerators=accelerators, samples_per_s=samples_per_s, bytes_per_sample=bytes_per_sample)
    return accelerators * samples_per_s * bytes_per_sample


def requests_in_flight(requests_per_s: float, latency_s: float) -> float:
    """How many requests must be under way at once (Little's law): below it a far storage starves a fast link."""
    _positive(requests_per_s=requests_per_s)
    if not 0 <= latency_s < math.inf:
        raise UsageError(f"latency_s is at least 0 and finite; got {latency_s}.")
    return requests_per_s * latency_s


def fed_share(needed_bytes_per_s: float, storage_bytes_per_s: float, *, cache_share: float = 0.0) -> float:
    """The share of its speed that a fleet reaches; cache_share: of its bytes, those that are near already."""
    _positive(needed_bytes_per_s=needed_bytes_per_s, storage_bytes_per_s=storage_bytes_per_s)
    if not 0 <= cache_share <= 1:
        raise UsageError(f"cache_share lies between 0 and 1; got {cache_share}.")
    from_storage = needed_bytes_per_s * (1 - cache_share)
    return min(1.0, storage_bytes_per_s / from_storage) if from_storage else 1.0


def price_of_useful_hour(price_usd_per_h: float, share: float) -> float:
    """What an hour of full speed costs when only ``share`` of each paid hour is worked: price ÷ share."""
    _positive(price_usd_per_h=price_usd_per_h, share=share)
    if share > 1:
        raise UsageError(f"A share is at most 1; got {share}.")
    return price_usd_per_h / share


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise UsageError(f"{name} must be above 0 and finite; got {value}.")
