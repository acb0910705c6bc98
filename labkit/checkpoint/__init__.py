"""Checkpoints: what they cost, how often to write them, how they survive every crash.

`states` and what trains import torch and are imported by name.
"""

from labkit.checkpoint.cadence import optimal_interval
from labkit.checkpoint.store import Store
from labkit.checkpoint.validation import Checkpoint, damage, examine

__all__ = ["Checkpoint", "Store", "damage", "examine", "optimal_interval"]
