"""A training job as the parts of its step, so that whoever times it need not know what the job does."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from labkit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PARTS", "TrainingJob", "delayed"]

# "collective": exposed, beside which nothing is computed; "other": what the loop does besides (logging, checkpoints).
PARTS = ("wait for data", "copy", "forward", "backward", "optimizer", "collective", "other")
_CAN_BE_DELAYED = tuple(part for part in PARTS if part != "collective")

Part = Callable[[str], AbstractContextManager[object]]


class TrainingJob:
    """Everything that one training step is made of; `step` takes the next one.

    loss(model, batch) -> a scalar tensor. batches: anything iterable, begun again when it ends. copy(batch): the batch
    where the model computes; by default every tensor of a tensor, tuple, list or dict goes to the model's device.
    after_step(loss): what the loop does besides. A model that averages its gradients (DDP) may be given as it is.
    UsageError: no batch, batches that end and cannot be begun again, or a loss that is no single number.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        batches: Iterable[Any],
        *,
        loss: Callable[[Any, Any], Tensor],
        copy: Callable[[Any], Any] | None = None,
        after_step: Callable[[Tensor], object] | None = None,
    ) -> None:
        first = next(iter(model.parameters()), None)
        if first is None:
            raise UsageError("The model has no parameters, so there is nothing to train.")
        self.model, self.device = model, str(first.device.type)
        self.loss, self.after_step = loss, after_step or (lambda _loss: None)
        self.copy = copy or (lambda batch: _to(batch, first.device))
        self.next_batch = _endless(batches).__next__

        def update() -> None:
            optimizer.step()
            optimizer.zero_grad()

        self.update = update

    def step(self, part: Part = lambda _name: nullcontext()) -> Tensor:
        """One step; ``part(name)`` is entered around each part of it. Returns the loss."""
        with part("wait for data"):
            batch = self.next_batch()
        with part("copy"):
            batch = self.copy(batch)
        with part("forward"):
            loss = self.loss(self.model, batch)
        if loss.numel() != 1:
            raise UsageError(f"A loss is a single number; got a tensor of shape {tuple(loss.shape)}. Take its mean.")
        with part("backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        with part("optimizer"):
            self.update()
        self.after_step(loss)
        return loss


def delayed(
    job: TrainingJob, delays_s: Mapping[str, float], *, sleep: Callable[[float], object] = time.sleep
) -> TrainingJob:
    """The same job (its model, its batches), with a known sleep in each of the named parts of every step.

    No sleep is a collective: let another rank come late to it (a delayed backward), which is what a slow one mostly is.
    """
    for part, delay_s in delays_s.items():
        if part not in _CAN_BE_DELAYED:
            raise UsageError(f"A delay goes into one of {', '.join(_CAN_BE_DELAYED)}; got {part!r}.")
        if not 0 <= delay_s < math.inf:
            raise UsageError(f"A delay is at least 0 s and finite; got {delay_s} s in {part}.")
    slow = copy.copy(job)

    def late(part: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """fn with the sleep of ``part`` before it; without one, itself."""
        if not delays_s.get(part):
            return fn

        def after_a_sleep(*args: Any) -> Any:
            sleep(delays_s[part])
            return fn(*args)

        return after_a_sleep

    def loss(model: Any, batch: Any) -> Any:
        value: Any = job.loss(model, batch)
        if delays_s.get("backward"):
            value.register_hook(late("backward", lambda _gradient: None))  # the backward's first deed
        return value

    slow.next_batch, slow.copy = late("wait for data", job.next_batch), late("copy", job.copy)
    slow.loss, slow.update = late("forward", loss), late("optimizer", job.update)
    slow.after_step = late("other", job.after_step)
    return slow


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    """Batch after batch, epoch after epoch."""
    epoch = 0
    while True:
        count = 0
        for batch in batches:
            count += 1
            yield batch
        if not count:
            what = "are empty" if not epoch else "ended and cannot be begun again"
            raise UsageError(f"The batches {what}. Give a list, a DataLoader, or an iterator that does not end.")
        epoch += 1


def _to(batch: Any, device: Any) -> Any:
    """Every tensor of a batch on the device."""
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    if hasattr(batch, "_fields"):  # a named tuple
        return type(batch)(*(_to(value, device) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(_to(value, device) for value in batch)
    return batch.to(device, non_blocking=True) if hasattr(batch, "to") else batch
