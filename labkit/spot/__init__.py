"""Spot capacity: what interruptions cost."""

from labkit.spot.goodput import expected_goodput

__all__ = ["expected_goodput"]
