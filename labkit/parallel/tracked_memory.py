"""What a training step really holds at its peak, storage by storage, as torch's memory trackers see it.

They follow every tensor that is made and freed on any device, real or fake, so a peak is a count and not a reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.fsdp import FSDPModule

from labkit.parallel.moments import CLASSES, MemoryUse

__all__ = ["CLASS_OF", "tracked_peak"]

CLASS_OF: Mapping[str, str] = MappingProxyType(  # the trackers' names: FSDPMemTracker's first, then MemTracker's
    {
        "Sharded Param": "weights",
        "Unsharded Param": "gathered",
        "Buffer": "weights",
        "Sharded Grad": "gradients",
        "Unsharded Grad": "gradients",
        "Activation": "activations",
        "Temp": "activations",  # gradients of activations, and those of weights until they are summed or sharded
        "All Gather": "gathered",
        "Reduce Scatter": "gathered",
        "OptState": "optimizer",
        "Inputs": "activations",
        "Parameter": "weights",
        "Gradient": "gradients",
        "Optstate": "optimizer",
        "Other": "activations",
    }
)


def tracked_peak(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: Callable[[], object],
    inputs: tuple[Tensor, ...] = (),
    *,
    repeats: int = 1,
) -> MemoryUse:
    """Bytes at the worst moment of ``step()``, which runs once untracked before, so that the optimizer has its state.

    step: forward, backward, the optimizer's step and zero_grad. repeats: the least peak of so many steps counts, for a
    backend's own threads let go of a buffer when they come to it. activations: temporaries too.
    """
    step()
    uses = [_tracked(model, optimizer, step, inputs) for _ in range(repeats)]
    return min(uses, key=lambda use: use.total_bytes)


def _tracked(
    model: nn.Module, optimizer: torch.optim.Optimizer, step: Callable[[], object], inputs: tuple[Tensor, ...]
) -> MemoryUse:
    tracker: Any
    if isinstance(model, FSDPModule):
        tracker = FSDPMemTracker(model, optimizer)
        tracker.track_inputs(inputs)
    else:
        tracker = MemTracker()
        tracker.track_external(model, optimizer, *inputs)
    with tracker:
        step()
    held = dict.fromkeys(CLASSES, 0.0)
    for device in tracker.get_tracker_snapshot("peak").values():
        for kind, num_bytes in device.items():
            name = getattr(kind, "value", kind)
            if name != "Total":
                held[CLASS_OF[name]] += num_bytes
    return MemoryUse(**held, moment="tracked")
