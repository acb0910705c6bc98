"""The parameters of one module as one flat vector, cut into as many equal parts as there are ranks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from labkit.errors import UsageError

__all__ = ["FlatShard"]


class FlatShard:
    """P parameters, padded with zeros to a multiple of the world size n; this rank owns ``shard``, (P_padded / n,).

    The module's parameters become views of ``flat``, (P_padded,), and so is the shard until it is detached. ``gather``
    fills flat from all ranks, ``reduce`` puts mean gradients into ``shard.grad``; after ``detach_shard``, ``release``
    gives flat's memory back. UsageError: dtypes or devices that differ.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: dist.ProcessGroup | None = None) -> None:
        self.parameters = list(parameters)
        self.group = group
        self.world_size = dist.get_world_size(group)
        kinds = {(str(p.dtype), str(p.device)) for p in self.parameters}
        if len(kinds) != 1:
            found = ", ".join(f"{dtype} on {device}" for dtype, device in sorted(kinds)) or "none"
            raise UsageError(
                f"One flat vector needs parameters of one dtype on one device; got {found}. "
                "Convert the model with .to(dtype=..., device=...), or shard its parts apart."
            )
        first = self.parameters[0]
        self.num_params = sum(p.numel() for p in self.parameters)
        self.padded = -(-self.num_params // self.world_size) * self.world_size
        self.flat = torch.zeros(self.padded, dtype=first.dtype, device=first.device)
        offset = 0
        for p in self.parameters:
            view = self.flat[offset : offset + p.numel()].view_as(p)
            view.copy_(p.data)
            p.data = view
            offset += p.numel()
        self.flat_grad: Tensor | None = None  # where gradients are kept whole
        self.shard = nn.Parameter(self.flat.chunk(self.world_size)[dist.get_rank(group)])  # (P_padded / n,)

    @property
    def is_whole(self) -> bool:
        """Whether the parameters can be used now."""
        return self.flat.untyped_storage().size() > 0

    def keep_gradients(self) -> None:
        """Give the gradients one flat vector of their own, into which every backward adds."""
        self.flat_grad = torch.zeros_like(self.flat)
        offset = 0
        for p in self.parameters:
            p.grad = self.flat_grad[offset : offset + p.numel()].view_as(p)
            offset += p.numel()

    def detach_shard(self) -> None:
        """Keep the shard in memory of its own, so that the flat vector can be let go."""
        self.shard.data = self.shard.data.clone()

    def gather(self) -> None:
        """All-gather: (P_padded / n,) of every rank -> the flat vector on each. Sends (n − 1)/n of it."""
        if not self.is_whole:
            self.flat.untyped_storage().resize_(self.padded * self.flat.element_size())
        dist.all_gather_into_tensor(self.flat, self.shard.data, group=self.group)

    def release(self) -> None:
        """Give the flat vector's memory back; what autograd saved of it are views, and see it again once gathered."""
        self.flat.untyped_storage().resize_(0)

    def reduce(self) -> None:
        """Reduce-scatter the mean of all ranks' gradients into ``shard.grad``; the whole ones go, or start anew."""
        whole = self._joined() if self.flat_grad is None else self.flat_grad
        mean = torch.empty_like(self.shard.data)
        dist.reduce_scatter_tensor(mean, whole.div_(self.world_size), group=self.group)
        self.shard.grad = mean if self.shard.grad is None else self.shard.grad + mean
        if self.flat_grad is not None:
            self.flat_grad.zero_()
            return
        for p in self.parameters:
            p.grad = None

    def _joined(self) -> Tensor:
        """The parameters' gradients end to end, zeros where there is none: (P_padded,)."""
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return torch.cat([*(piece.flatten() for piece in pieces), self.shard.new_zeros(self.padded - self.num_params)])
