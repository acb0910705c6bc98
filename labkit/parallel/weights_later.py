"""A backward cut in two: the gradients of inputs at once, those of the linear layers' weights when there is time.

Source: Qi et al. (2023), zero bubble pipeline parallelism. torch cannot be asked for the second half alone (a second
autograd.grad for the weights walks the whole graph again), so each linear layer notes what its weight will need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["WeightsLater"]

Keep = Callable[[Tensor], Any]  # what holds a tensor; its .tensor gives it back


class _Kept:
    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class WeightsLater(TorchFunctionMode):
    """A forward under this has a backward that leaves out the linear layers' weights; ``weights()`` adds them up after.

    Other parameters (norms, the embedding) get their gradients in the backward: they are a thousandth of the work.
    keep: how a tensor is held until then (for counting); it must give the tensor back as ``.tensor``.
    """

    def __init__(self, keep: Keep = _Kept) -> None:
        super().__init__()
        self._keep = keep
        self._due: list[tuple[Tensor, Any, Any]] = []  # weight, the layer's input, the gradient of its output

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and not kwargs and args[1].requires_grad and all(bias is None for bias in args[2:]):
            return _Linear.apply(args[0], args[1], self)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))

    def weights(self) -> None:
        """The gradients that the backward left out, into ``.grad``."""
        with torch.no_grad():
            for weight, x, grad in self._due:
                found = grad.tensor.flatten(0, -2).mT @ x.tensor.flatten(0, -2)  # (out, B·T) @ (B·T, in) -> (out, in)
                weight.grad = found if weight.grad is None else weight.grad.add_(found)
        self._due.clear()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, later: WeightsLater) -> Tensor:
        ctx.save_for_backward(x)
        ctx.weight, ctx.later = weight, later  # the parameter itself: what is saved may come back as another tensor
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        (x,) = ctx.saved_tensors
        weight, later = ctx.weight, ctx.later
        later._due.append((weight, later._keep(x.detach()), later._keep(grad)))  # without the graph behind x
        return grad @ weight, None, None  # (..., out) @ (out, in) -> (..., in)
