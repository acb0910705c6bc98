"""ZeRO by hand: stage 1 shards the optimizer, stage 2 the gradients too, stage 3 the weights as well.

Rajbhandari et al. (2020). Each stage is the one before and what it adds; ``labkit.parallel.fully_sharded`` is torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from labkit.errors import UsageError
from labkit.parallel.flat_shard import FlatShard

__all__ = ["MakeOptimizer", "Zero1", "Zero2", "Zero3", "blocks_of", "parts_of", "zero"]

MakeOptimizer = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


class Zero1:
    """Every rank computes all gradients and updates its 1/n of the weights: optimizer state falls to 1/n.

    A step sends a reduce-scatter and an all-gather of Ψ parameters: 2Ψ·(n − 1)/n, no more than plain data parallel.
    """

    def __init__(
        self, model: nn.Module, make_optimizer: MakeOptimizer, *, group: dist.ProcessGroup | None = None
    ) -> None:
        self.model = model
        self.units = [FlatShard(parameters, group) for parameters in parts_of(model)]
        self.prepare()
        self.optimizer = make_optimizer([unit.shard for unit in self.units])

    def prepare(self) -> None:
        """What a stage changes in the model."""
        for unit in self.units:
            unit.keep_gradients()

    def step(self) -> None:
        """After the backward: average the gradients, update this rank's shard, share the new weights."""
        for unit in self.units:
            unit.reduce()
        self.update()
        for unit in self.units:
            unit.gather()

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class Zero2(Zero1):
    """A block's gradients are reduced as soon as its backward has made them, and let go: no rank holds all of them.

    The bytes sent are stage 1's. Every parameter must get a gradient in each backward; several backwards before a step
    add up, each reduced as it comes.
    """

    def prepare(self) -> None:
        for unit in self.units:
            for p in unit.parameters:
                p.register_post_accumulate_grad_hook(partial(self._gradient_made, unit))  # type: ignore[no-untyped-call]

    def _gradient_made(self, unit: FlatShard, _parameter: Tensor) -> None:
        if all(p.grad is not None for p in unit.parameters):
            unit.reduce()
            self.after_reduce(unit)

    def after_reduce(self, unit: FlatShard) -> None:
        """What else can go once a block's backward is over: nothing here."""

    def step(self) -> None:
        self.update()
        for unit in self.units:
            unit.gather()


class Zero3(Zero2):
    """Weights are there only while their block computes: gathered for its forward and again for its backward.

    A step sends two all-gathers and a reduce-scatter: 3Ψ·(n − 1)/n, half as much again.
    """

    def prepare(self) -> None:
        super().prepare()
        for unit, module in zip(self.units, [*blocks_of(self.model), self.model], strict=True):
            unit.detach_shard()
            unit.release()
            self._gather_around(unit, module)

    def _gather_around(self, unit: FlatShard, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda _module, _inputs: unit.gather())
        module.register_forward_hook(lambda _module, _inputs, _output: unit.release())
        module.register_full_backward_pre_hook(lambda _module, _gradients: unit.gather())

    def after_reduce(self, unit: FlatShard) -> None:
        unit.release()

    def step(self) -> None:
        self.update()  # the next forward gathers


def zero(
    model: nn.Module, make_optimizer: MakeOptimizer, *, stage: int, group: dist.ProcessGroup | None = None
) -> Zero1:
    """The model sharded as ZeRO's stage 1, 2 or 3 does; call its ``model``, backward, then ``step()``.

    make_optimizer: shards -> optimizer, such as ``lambda shards: AdamW(shards, lr=1e-3)``; it must treat each number
    alone, as Adam and SGD do. All ranks begin with equal weights. UsageError: a stage that there is not.
    """
    stages = {1: Zero1, 2: Zero2, 3: Zero3}
    if stage not in stages:
        raise UsageError(f"stage must be 1, 2 or 3; got {stage!r}. Stage 0 is plain data parallel: DDP.")
    return stages[stage](model, make_optimizer, group=group)


def parts_of(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each flat vector: one a block, and one of what lies outside (embedding, last norm, head)."""
    blocks = [list(block.parameters()) for block in blocks_of(model)]
    inside = {id(p) for block in blocks for p in block}
    return [*blocks, [p for p in model.parameters() if id(p) not in inside]]


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The model's transformer blocks, ``model.layers``. UsageError where it has none."""
    layers = getattr(model, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise UsageError(f"Sharding block by block needs model.layers, a ModuleList; {type(model).__name__} has none.")
    return list(layers)
