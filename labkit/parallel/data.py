"""Data parallel by hand: every rank has the whole model and its share of the batch; the gradients are averaged.

What DistributedDataParallel does, to be read: gradients are gathered in buckets, the last layers' first, and each
bucket is all-reduced as soon as it is full, while the backward is still busy with the earlier layers. Source: Li et al.
(2020), PyTorch Distributed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from labkit.errors import UsageError
from labkit.parallel.agreement import check_agreement
from labkit.sizes import divisors, either
from labkit.units import MIB

__all__ = ["Bucket", "DataParallel", "plan_buckets", "shard_batch"]

Watch = Callable[[int, float, float], None]  # (bucket, start in s, end in s) of an all-reduce, by time.perf_counter


class Bucket:
    """Some parameters' gradients, one behind the other in one flat tensor, so that one all-reduce does for all."""

    __slots__ = ("flat", "num_ready", "params", "views", "work")

    def __init__(self, params: list[nn.Parameter]) -> None:
        self.params = params
        self.flat = torch.zeros(sum(p.numel() for p in params), dtype=params[0].dtype, device=params[0].device)
        parts = torch.split(self.flat, [p.numel() for p in params])
        self.views = {p: part.view_as(p) for p, part in zip(params, parts, strict=True)}
        self.num_ready = 0
        self.work: Any = None

    @property
    def num_bytes(self) -> int:
        return self.flat.numel() * self.flat.element_size()


class DataParallel(nn.Module):
    """``module`` on every rank of ``group``, equal at the start and, its gradients being averaged, ever after.

    bucket_bytes: a bucket takes gradients up to this size; one that is larger has a bucket of its own. overlap: all-
    reduce while the backward goes on; without it, after the whole backward. watch: told of every all-reduce.
    After ``backward()`` each ``.grad`` is the mean over the ranks. The loss must be a mean over equally many samples on
    each rank (`shard_batch`). Parameters and buffers are rank 0's at the start; buffers are not kept equal afterwards.
    UsageError: parameters that differ in shape or dtype between ranks, several dtypes, or one without a gradient.
    """

    def __init__(
        self,
        module: nn.Module,
        group: dist.ProcessGroup | None = None,
        *,
        bucket_bytes: int = 25 * MIB,
        overlap: bool = True,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        self.module, self.group, self.overlap, self.watch = module, group, overlap, watch
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        _check_trainable(named, bucket_bytes)
        shapes = {name: f"{tuple(p.shape)} of {p.dtype}" for name, p in named.items()}
        check_agreement(shapes, "Data parallel keeps one model on every rank", group)
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), group=group, group_src=0)
        self.buckets = [Bucket(params) for params in plan_buckets(module, bucket_bytes)]
        self._names = {p: name for name, p in named.items()}
        self._bucket_of = {p: bucket for bucket in self.buckets for p in bucket.params}
        self._syncing, self._in_backward, self._next = True, False, 0
        for p in named.values():
            p.register_post_accumulate_grad_hook(self._on_gradient)  # type: ignore[no-untyped-call]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Gradients add up on each rank and stay there; the first backward outside reduces what has added up."""
        self._syncing = False
        try:
            yield
        finally:
            self._syncing = True

    @torch.no_grad()
    def _on_gradient(self, p: Tensor) -> None:
        """A parameter's gradient is complete: into its bucket with it, and off with each bucket that is full."""
        if not self._syncing:
            return
        if not self._in_backward:
            self._in_backward = True
            torch.autograd.Variable._execution_engine.queue_callback(self._finish)
        bucket = self._bucket_of[p]  # type: ignore[index]
        view = bucket.views[p]  # type: ignore[index]
        assert p.grad is not None
        torch.mul(p.grad, 1 / dist.get_world_size(self.group), out=view)  # the sum of n-ths is the mean
        p.grad = view
        bucket.num_ready += 1
        # In the order of the buckets on every rank, whatever the order in which they fill: all ranks must agree.
        while self.overlap and self._next < len(self.buckets) and self._full(self._next):
            self._reduce(self._next)
            self._next += 1

    def _full(self, index: int) -> bool:
        return self.buckets[index].num_ready == len(self.buckets[index].params)

    def _reduce(self, index: int) -> None:
        bucket, started = self.buckets[index], time.perf_counter()
        bucket.work = dist.all_reduce(bucket.flat, group=self.group, async_op=True)
        if (watch := self.watch) is not None:
            bucket.work.get_future().then(lambda _: watch(index, started, time.perf_counter()))

    def _finish(self) -> None:
        """The backward is through: reduce what is left, and wait for what is under way."""
        missing = [
            self._names[p] for b in self.buckets if b.num_ready < len(b.params) for p in b.params if p.grad is None
        ]
        try:
            if missing:
                raise UsageError(
                    f"Every parameter must get a gradient, else the ranks cannot agree on what to reduce; none came to "
                    f"{', '.join(missing[:3])}. Use it in the loss, or set its requires_grad to False."
                )
            for index in range(self._next, len(self.buckets)):
                self._reduce(index)
            for bucket in self.buckets:
                bucket.work.wait()
        finally:
            self._in_backward, self._next = False, 0
            for bucket in self.buckets:
                bucket.num_ready, bucket.work = 0, None


def plan_buckets(module: nn.Module, bucket_bytes: int = 25 * MIB) -> list[list[nn.Parameter]]:
    """The parameters of each bucket, the module's last first, as the backward reaches them; as many as it takes."""
    buckets: list[list[nn.Parameter]] = []
    filled = 0
    for p in [p for p in module.parameters() if p.requires_grad][::-1]:
        if not buckets or filled + p.nbytes > bucket_bytes:
            buckets.append([])
            filled = 0
        buckets[-1].append(p)
        filled += p.nbytes
    return buckets


def shard_batch(batch: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """This rank's share: (B, …) -> (B/n, …). UsageError where n does not divide B: the mean of means would be off."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    if len(batch) % size:
        fitting = either(divisors(len(batch)))
        raise UsageError(f"world_size must divide the batch; got {size} and {len(batch)}. Use {fitting}.")
    return batch.chunk(size)[rank]


def _check_trainable(named: dict[str, nn.Parameter], bucket_bytes: int) -> None:
    if not named:
        raise UsageError("The module has no parameter that requires a gradient, so there is nothing to train.")
    if not bucket_bytes > 0:
        raise UsageError(f"bucket_bytes must be above 0; got {bucket_bytes!r}. 25 MiB is usual.")
    first, dtypes = next(iter(named)), {p.dtype for p in named.values()}
    if len(dtypes) > 1:
        other = next(name for name, p in named.items() if p.dtype != named[first].dtype)
        raise UsageError(
            f"A bucket is one flat tensor, so all parameters must have one dtype; got {named[first].dtype} ({first}) "
            f"and {named[other].dtype} ({other}). Convert the module with module.to(dtype)."
        )
