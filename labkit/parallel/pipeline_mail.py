"""What stages hand to each other: activations forwards, gradients backwards, by tagged sends and receives."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from labkit.errors import LaunchError
from labkit.parallel.schedules import Action, Schedule

__all__ = ["Mail"]


class Mail:
    """One stage's letters in one step. Sends never wait, and a receive is posted before it is needed, so no order of
    sends and receives can deadlock where the schedule itself does not. Each letter has a tag of its own."""

    def __init__(self, schedule: Schedule, stage: int, like: Tensor, group: dist.ProcessGroup | None) -> None:
        self._schedule, self._stage, self._like, self._group = schedule, stage, like, group
        self._coming: dict[int, tuple[Any, Tensor]] = {}
        self._at_hand: dict[int, Tensor] = {}  # from a part of this same stage
        self._leaving: deque[tuple[Any, Tensor]] = deque()

    def post(self, action: Action) -> None:
        """Have the receive that an action needs under way."""
        source = self._source(action)
        if source is None or source == self._stage:
            return
        tag = self._tag(action.kind, self._part(action), action.microbatch)
        if tag not in self._coming:
            buffer = torch.empty_like(self._like)
            self._coming[tag] = (
                self._try(action, dist.irecv, buffer, group=self._group, group_src=source, tag=tag),
                buffer,
            )

    def take(self, action: Action) -> Tensor | None:
        """What the action needs from another part, waited for; None where it needs nothing."""
        source = self._source(action)
        if source is None:
            return None
        tag = self._tag(action.kind, self._part(action), action.microbatch)
        if source == self._stage:
            return self._at_hand.pop(tag)
        self.post(action)
        work, buffer = self._coming.pop(tag)
        self._try(action, work.wait)
        return buffer

    def give(self, action: Action, tensor: Tensor) -> None:
        """Hand an action's result to its reader: a forward's to the next part, a backward's to the one before."""
        part = self._part(action) + (1 if action.kind == "F" else -1)
        if not 0 <= part < self._schedule.num_parts:
            return
        target, tag = self._schedule.stage_of(part), self._tag(action.kind, part, action.microbatch)
        if target == self._stage:
            self._at_hand[tag] = tensor
            return
        tensor = tensor.contiguous()
        work = self._try(action, dist.isend, tensor, group=self._group, group_dst=target, tag=tag)
        self._leaving.append((work, tensor))  # its memory is the send's until that is done
        while self._leaving and self._leaving[0][0].is_completed():
            self._leaving.popleft()

    def close(self) -> None:
        """Wait until everything sent has left."""
        for work, _ in self._leaving:
            self._try(None, work.wait)
        self._leaving.clear()

    def _part(self, action: Action) -> int:
        return self._schedule.part(self._stage, action.chunk)

    def _source(self, action: Action) -> int | None:
        """The stage that an action waits for, None where it waits for none."""
        part = self._part(action) + {"F": -1, "B": 1, "W": self._schedule.num_parts}[action.kind]
        return self._schedule.stage_of(part) if 0 <= part < self._schedule.num_parts else None

    def _tag(self, kind: str, part: int, microbatch: int) -> int:
        """Of the letter that part ``part`` needs for this kind of action."""
        return 2 * (microbatch * self._schedule.num_parts + part) + (kind == "B")

    def _try(self, action: Action | None, what: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return what(*args, **kwargs)
        except RuntimeError as error:
            at = f"at {action}" if action else "at its end"
            raise LaunchError(
                f"Stage {self._stage} lost a neighbour {at} of {self._schedule.name}: a rank of the pipeline has died "
                "or hangs. Its own error, if it left one, says why."
            ) from error
