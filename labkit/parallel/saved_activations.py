"""How much a forward leaves behind for its backward: the bytes that autograd keeps, counted as they come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

__all__ = ["Saved", "SavedActivations"]


class Saved:
    """One tensor that is kept; its bytes count until nobody refers to this."""

    __slots__ = ("_owner", "tensor")

    def __init__(self, tensor: Tensor, owner: SavedActivations) -> None:
        self.tensor, self._owner = tensor, owner
        owner._keep(tensor)

    def __del__(self) -> None:
        self._owner._drop(self.tensor)


class SavedActivations:
    """``now_bytes`` and ``peak_bytes`` of what is saved under ``watch()``. A storage counts once, however many views
    of it are kept; ``parameters`` do not count: they are there anyway."""

    def __init__(self, parameters: Iterable[Tensor] = ()) -> None:
        self.now_bytes = self.peak_bytes = 0
        self._aside = {_storage(parameter) for parameter in parameters}
        self._kept: Counter[int] = Counter()

    def watch(self) -> AbstractContextManager[None]:
        """While it is open, what autograd saves on this thread is counted, until it lets go."""
        return torch.autograd.graph.saved_tensors_hooks(self.save, lambda saved: saved.tensor)

    def save(self, tensor: Tensor) -> Saved:
        """Keep and count a tensor by hand."""
        return Saved(tensor, self)

    def _keep(self, tensor: Tensor) -> None:
        key = _storage(tensor)
        if key in self._aside:
            return
        self._kept[key] += 1
        if self._kept[key] == 1:
            self.now_bytes += tensor.untyped_storage().nbytes()
            self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def _drop(self, tensor: Tensor) -> None:
        key = _storage(tensor)
        if key in self._aside:
            return
        self._kept[key] -= 1
        if not self._kept[key]:
            del self._kept[key]
            self.now_bytes -= tensor.untyped_storage().nbytes()


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
