"""Checkpoints: what they cost, how often to write them."""

from labkit.checkpoint.cadence import optimal_interval

__all__ = ["optimal_interval"]
