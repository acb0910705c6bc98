"""A slower fabric, for real: torch.distributed over gloo, each transfer done no sooner than a chosen link allows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import torch
import torch.distributed as dist

from labkit.errors import UsageError
from labkit.parallel.links import LINKS, Link, LinkQueue, Topology, named_link, ring_bytes_sent, ring_steps

__all__ = ["LINKS", "Link", "ThrottledGroup", "Topology", "named_link", "throttled"]
CPU = torch.device("cpu")


class _Work(dist.Work):
    def __init__(self, op: str, tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self.op, self.tensors = op, tensors
        self.error: BaseException | None = None
        self.done = threading.Event()
        self._raw: torch.futures.Future[Any] = torch.futures.Future()
        self._future = self._raw.then(self._checked)

    def _checked(self, future: Any) -> list[torch.Tensor]:
        if self.error is not None:
            raise self.error
        return self.tensors

    def complete(self, error: BaseException | None = None) -> None:
        self.error = error
        self.done.set()
        self._raw.set_result(None)

    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        seconds = timeout.total_seconds()
        if not self.done.wait(seconds if seconds > 0 else None):
            raise RuntimeError(f"{self.op} over the throttled group was not done within {seconds:g} s.")
        if self.error is not None:
            raise self.error
        return True

    def get_future(self) -> Any:
        return self._future

    def is_completed(self) -> bool:
        return self.done.is_set()


@dataclass(slots=True)
class _Pending:
    work: _Work
    real: Any
    due: Callable[[], float]


class _Lane(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.pending: SimpleQueue[_Pending | None] = SimpleQueue()

    def run(self) -> None:
        while (item := self.pending.get()) is not None:
            error: BaseException | None = None
            try:
                due_s = item.due()
                item.real.wait()
                if (left_s := due_s - time.monotonic()) > 0:
                    time.sleep(left_s)
            except Exception as caught:
                error = caught
            item.work.complete(error)


def _bytes(tensors: Any) -> int:
    if isinstance(tensors, torch.Tensor):
        return tensors.numel() * tensors.element_size()
    return sum(_bytes(each) for each in tensors)


def _flat(tensors: Any) -> list[torch.Tensor]:
    return [tensors] if isinstance(tensors, torch.Tensor) else [t for each in tensors for t in _flat(each)]


class ThrottledGroup(dist.ProcessGroup):
    """Passes every call on to gloo at once and completes it when the link would have."""

    def __init__(self, rank: int, inner: dist.ProcessGroup, control: Any, link: Link, queue: LinkQueue) -> None:
        super().__init__(rank, inner.size())
        self.link = link
        self._inner, self._control, self._queue = inner, control, queue
        self._lanes: dict[tuple[Any, ...], _Lane] = {}
        self._register_backend(CPU, dist.ProcessGroup.BackendType.GLOO, inner._get_backend(CPU))

    def getBackendName(self) -> str:
        return "throttled"

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.pending.put(None)

    def _lane(self, *key: Any) -> _Lane:
        if key not in self._lanes:
            self._lanes[key] = _Lane()
            self._lanes[key].start()
        return self._lanes[key]

    def _together(self, op: str, num_bytes: float, tensors: Any, real: Any) -> _Work:
        n = self.size()
        cost = self.link.time_s(ring_steps(op, n), ring_bytes_sent(op, num_bytes, n))
        start = self._queue.reserve(time.monotonic(), cost)
        agreed = torch.tensor([start, cost], dtype=torch.float64)
        opts = dist.AllreduceOptions()
        opts.reduceOp = dist.ReduceOp.MAX
        agreement = self._control.allreduce([agreed], opts)

        def due() -> float:
            agreement.wait()
            finish = float(agreed.sum())
            self._queue.settle(finish)
            return finish

        work = _Work(op, _flat(tensors))
        self._lane("all").pending.put(_Pending(work, real, due))
        return work

    def allreduce(self, tensors: Any, *opts: Any) -> _Work:
        return self._together("all_reduce", _bytes(tensors), tensors, self._inner.allreduce(tensors, *opts))

    def allreduce_coalesced(self, tensors: Any, *opts: Any) -> _Work:
        return self._together("all_reduce", _bytes(tensors), tensors, self._inner.allreduce_coalesced(tensors, *opts))

    def broadcast(self, tensors: Any, *opts: Any) -> _Work:
        return self._together("broadcast", _bytes(tensors), tensors, self._inner.broadcast(tensors, *opts))

    def reduce(self, tensors: Any, *opts: Any) -> _Work:
        return self._together("reduce", _bytes(tensors), tensors, self._inner.reduce(tensors, *opts))

    def barrier(self, opts: Any = None) -> _Work:
        return self._together("barrier", 0, [], self._inner.barrier(opts or dist.distributed_c10d.BarrierOptions()))

    def allgather(self, outputs: Any, inputs: Any, *opts: Any) -> _Work:
        return self._together("all_gather", _bytes(outputs), outputs, self._inner.allgather(outputs, inputs, *opts))

    def all_gather_single(self, output: Any, input: Any, *opts: Any) -> _Work:
        real = self._inner.all_gather_single(output, input, *opts)
        return self._together("all_gather", _bytes(output), output, real)

    def all_gather_single_coalesced(self, outputs: Any, inputs: Any, *opts: Any) -> _Work:
        real = self._inner.all_gather_single_coalesced(outputs, inputs, *opts)
        return self._together("all_gather", _bytes(outputs), outputs, real)

    def reduce_scatter(self, outputs: Any, inputs: Any, *opts: Any) -> _Work:
        real = self._inner.reduce_scatter(outputs, inputs, *opts)
        return self._together("reduce_scatter", _bytes(inputs), outputs, real)

    def reduce_scatter_single(self, output: Any, input: Any, *opts: Any) -> _Work:
        real = self._inner.reduce_scatter_single(output, input, *opts)
        return self._together("reduce_scatter", _bytes(input), output, real)

    def reduce_scatter_single_coalesced(self, outputs: Any, inputs: Any, *opts: Any) -> _Work:
        real = self._inner.reduce_scatter_single_coalesced(outputs, inputs, *opts)
        return self._together("reduce_scatter", _bytes(inputs), outputs, real)

    def all_to_all_single(self, output: Any, input: Any, outs: Any, ins: Any, *opts: Any) -> _Work:
        real = self._inner.all_to_all_single(output, input, outs, ins, *opts)
        return self._together("all_to_all", _bytes(input), output, real)

    def alltoall(self, outputs: Any, inputs: Any, *opts: Any) -> _Work:
        return self._together("all_to_all", _bytes(inputs), outputs, self._inner.alltoall(outputs, inputs, *opts))

    def gather(self, outputs: Any, inputs: Any, *opts: Any) -> _Work:
        num_bytes = _bytes(inputs) * self.size()
        return self._together("gather", num_bytes, outputs, self._inner.gather(outputs, inputs, *opts))

    def scatter(self, outputs: Any, inputs: Any, *opts: Any) -> _Work:
        num_bytes = _bytes(outputs) * self.size()
        return self._together("scatter", num_bytes, outputs, self._inner.scatter(outputs, inputs, *opts))

    def send(self, tensors: Any, dst: int, tag: int) -> _Work:
        cost = self.link.time_s(1, _bytes(tensors))
        finish = self._queue.reserve(time.monotonic(), cost) + cost
        notice = torch.tensor([finish], dtype=torch.float64)
        sent = self._control.send([notice], dst, tag)
        work = _Work("send", _flat(tensors))

        def due() -> float:
            sent.wait()
            return finish

        self._lane("send", dst, tag).pending.put(_Pending(work, self._inner.send(tensors, dst, tag), due))
        return work

    def recv(self, tensors: Any, src: int, tag: int) -> _Work:
        notice = torch.empty(1, dtype=torch.float64)
        came = self._control.recv([notice], src, tag)
        work = _Work("recv", _flat(tensors))

        def due() -> float:
            came.wait()
            return float(notice)

        self._lane("recv", src, tag).pending.put(_Pending(work, self._inner.recv(tensors, src, tag), due))
        return work


def _create(options: Any, made: Callable[[int], ThrottledGroup]) -> ThrottledGroup:
    return made(options.group_rank)


@contextmanager
def throttled(link: Link) -> Iterator[ThrottledGroup]:
    """Inside a rank: a group of all ranks whose transfers take as long as over ``link``."""
    if not dist.is_available() or not dist.is_initialized():
        raise UsageError(
            "throttled() needs the ranks of a group; none is here. Call it inside labkit.launch.run(fn, …)."
        )
    inner, control = dist.new_group(backend="gloo"), dist.new_group(backend="gloo")
    queue = LinkQueue()
    if "THROTTLED" not in dist.Backend._plugins:
        dist.Backend.register_backend("throttled", _create, extended_api=True, devices=["cpu"])
    group = dist.new_group(
        backend="throttled",
        pg_options=lambda rank: ThrottledGroup(rank, inner, control._get_backend(CPU), link, queue),
    )
    try:
        yield group
    finally:
        group.close()
