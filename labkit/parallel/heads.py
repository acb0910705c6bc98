"""How many ranks can share a layer: those that divide its heads, its KV heads and its MLP's inner units."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

from labkit.errors import UsageError
from labkit.sizes import divisors, either

__all__ = ["fitting_world_sizes", "need_divided"]


def fitting_world_sizes(num_heads: int, num_kv_heads: int, intermediate_size: int) -> tuple[int, ...]:
    """Every number of ranks that divides all three."""
    common = gcd(num_heads, num_kv_heads, intermediate_size)
    return tuple(divisors(common))


def need_divided(sizes: Mapping[str, int], world_size: int) -> None:
    """UsageError where ``world_size`` does not divide one of ``sizes`` (num_heads, num_kv_heads, intermediate_size)."""
    for name, size in sizes.items():
        if world_size < 1 or size % world_size:
            use = either(fitting_world_sizes(**sizes))
            raise UsageError(f"world_size must divide {name}; got {world_size} and {size}. Use {use}.")
