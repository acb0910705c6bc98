"""What a monitor says: which fault, when, where, and the figures that it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Alert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """monitor: which one; step: when; where: "rank 2", "shard 17", "weight w1"; evidence: plain data that it rests on.

    An alert without evidence is an opinion: whoever is woken by it must be able to see what the monitor saw.
    """

    monitor: str
    step: int
    where: str
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"step {self.step}, {self.monitor}, {self.where}: {self.message}"
