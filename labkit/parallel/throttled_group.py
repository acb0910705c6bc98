"""A process group over gloo whose transfers end when a link that is slower than this machine's would have ended them.

Every call goes on to gloo at once and returns; a lane completes it. torch gives Python the whole of ProcessGroup to
override, so DDP's reducer, `fully_shard`, device meshes and functional collectives come here as dist.all_reduce does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from labkit.errors import UsageError
from labkit.parallel.delayed import DelayedWork, Lane, Transfer
from labkit.parallel.links import Link, LinkQueue, ring_bytes_sent, ring_steps

__all__ = ["Port", "ThrottledGroup"]

CPU = torch.device("cpu")
Tensors = Any  # a tensor, a list of tensors, or a list of such lists


class Port:
    """What a transfer of this rank among ``ranks`` goes through: its link, and the queue on that link."""

    def __init__(self, ranks: tuple[int, ...], choose: Callable[[tuple[int, ...]], tuple[Link, LinkQueue]]) -> None:
        self.ranks = ranks
        self.link, self.queue = choose(ranks)
        self._choose = choose

    def to(self, me: int, peer: int) -> tuple[Link, LinkQueue]:
        return self._choose((self.ranks[me], self.ranks[peer]))


class ThrottledGroup(dist.ProcessGroup):
    """Made by `throttled`. inner: the gloo group that carries the data; control: another gloo backend, which carries
    when each transfer begins: it does not wait behind the data, and is not seen by who counts traffic."""

    def __init__(self, rank: int, inner: dist.ProcessGroup, control: Any, port: Port) -> None:
        super().__init__(rank, inner.size())  # type: ignore[call-arg]
        self.port = port
        self._inner, self._control = inner, control
        self._lanes: dict[tuple[Any, ...], Lane] = {}
        self._lock = threading.Lock()  # calls come from the main thread and from autograd's
        self._transfers: list[Transfer] = []
        # Asked what this backend can (allocate, coalesce), it says what gloo can.
        self._register_backend(CPU, dist.ProcessGroup.BackendType.GLOO, inner._get_backend(CPU))

    @property
    def link(self) -> Link:
        return self.port.link

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """What has been completed on this rank, in the order of completion."""
        return tuple(self._transfers)

    def getBackendName(self) -> str:
        return "throttled"

    def close(self) -> None:
        """Wait for what is still on its way."""
        with self._lock:
            lanes = list(self._lanes.values())
            self._lanes.clear()
        for lane in lanes:
            lane.close()

    def allreduce(self, tensors: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("all_reduce", tensors, tensors, lambda: self._inner.allreduce(tensors, *opts))

    def allreduce_coalesced(self, tensors: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("all_reduce", tensors, tensors, lambda: self._inner.allreduce_coalesced(tensors, *opts))

    def broadcast(self, tensors: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("broadcast", tensors, tensors, lambda: self._inner.broadcast(tensors, *opts))

    def reduce(self, tensors: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("reduce", tensors, tensors, lambda: self._inner.reduce(tensors, *opts))

    def barrier(self, opts: Any = None) -> DelayedWork:
        opts = opts or dist.distributed_c10d.BarrierOptions()
        return self._ring("barrier", [], [], lambda: self._inner.barrier(opts))

    def allgather(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("all_gather", out, out, lambda: self._inner.allgather(out, own, *opts))

    def allgather_coalesced(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("all_gather", out, out, lambda: self._inner.allgather_coalesced(out, own, *opts))

    def all_gather_single(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("all_gather", out, out, lambda: self._inner.all_gather_single(out, own, *opts))

    def all_gather_single_coalesced(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("all_gather", out, out, lambda: self._inner.all_gather_single_coalesced(out, own, *opts))

    def reduce_scatter(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("reduce_scatter", own, out, lambda: self._inner.reduce_scatter(out, own, *opts))

    def reduce_scatter_single(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("reduce_scatter", own, out, lambda: self._inner.reduce_scatter_single(out, own, *opts))

    def reduce_scatter_single_coalesced(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring(
            "reduce_scatter", own, out, lambda: self._inner.reduce_scatter_single_coalesced(out, own, *opts)
        )

    def all_to_all_single(self, out: Tensors, own: Tensors, *splits_and_opts: Any) -> DelayedWork:
        return self._ring("all_to_all", own, out, lambda: self._inner.all_to_all_single(out, own, *splits_and_opts))

    def alltoall(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("all_to_all", own, out, lambda: self._inner.alltoall(out, own, *opts))

    def gather(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("gather", [own] * self.size(), out, lambda: self._inner.gather(out, own, *opts))

    def scatter(self, out: Tensors, own: Tensors, *opts: Any) -> DelayedWork:
        return self._ring("scatter", [out] * self.size(), out, lambda: self._inner.scatter(out, own, *opts))

    # The names of torch before 2.13, which it still offers.
    _allgather_base = all_gather_single  # type: ignore[assignment]
    _reduce_scatter_base = reduce_scatter_single  # type: ignore[assignment]
    allgather_into_tensor_coalesced = all_gather_single_coalesced  # type: ignore[assignment]
    reduce_scatter_tensor_coalesced = reduce_scatter_single_coalesced  # type: ignore[assignment]
    alltoall_base = all_to_all_single  # type: ignore[assignment]

    def send(self, tensors: Tensors, dst: int, tag: int) -> DelayedWork:
        """Ends after its turn on this rank's link; a notice beside the data tells the receiver when that is."""
        num_bytes, asked_s = _bytes_of(tensors), time.monotonic()
        link, queue = self.port.to(self.rank(), dst)
        taken_s = link.time_s(1, num_bytes)
        start_s = queue.reserve(asked_s, taken_s)
        notice = torch.tensor([start_s, start_s + taken_s], dtype=torch.float64)
        told = self._control.send([notice], dst, tag)

        def agree() -> tuple[float, float]:
            told.wait()
            return start_s, start_s + taken_s

        transfer = Transfer(op="send", num_bytes=num_bytes, asked_s=asked_s)
        return self._later(("send", dst, tag), transfer, tensors, agree, self._inner.send(tensors, dst, tag))

    def recv(self, tensors: Tensors, src: int, tag: int) -> DelayedWork:
        transfer = Transfer(op="recv", num_bytes=_bytes_of(tensors), asked_s=time.monotonic())
        notice = torch.empty(2, dtype=torch.float64)
        told = self._control.recv([notice], src, tag)

        def agree() -> tuple[float, float]:
            told.wait()
            return float(notice[0]), float(notice[1])

        return self._later(("recv", src, tag), transfer, tensors, agree, self._inner.recv(tensors, src, tag))

    def recv_anysource(self, tensors: Tensors, tag: int) -> DelayedWork:
        raise UsageError("A throttled recv must name the rank that it waits for; got none. Pass src=.")

    def _ring(self, op: str, whole: Tensors, out: Tensors, call: Callable[[], Any]) -> DelayedWork:
        """A collective begins when the last rank has come and every rank's link is free: the ranks agree on that."""
        n, num_bytes, asked_s = self.size(), _bytes_of(whole), time.monotonic()
        taken_s = self.link.time_s(ring_steps(op, n), ring_bytes_sent(op, num_bytes, n))
        agreed = torch.tensor([self.port.queue.reserve(asked_s, taken_s), taken_s], dtype=torch.float64)
        latest = dist.distributed_c10d.AllreduceOptions()
        latest.reduceOp = dist.ReduceOp.MAX  # type: ignore[assignment]
        told = self._control.allreduce([agreed], latest)

        def agree() -> tuple[float, float]:
            told.wait()
            start_s, taken_s = agreed.tolist()
            self.port.queue.settle(start_s + taken_s)
            return start_s, start_s + taken_s

        transfer = Transfer(op=op, num_bytes=num_bytes, asked_s=asked_s)
        return self._later(("ring",), transfer, out, agree, call())

    def _later(
        self, lane: tuple[Any, ...], transfer: Transfer, out: Tensors, agree: Callable[[], Any], real: Any
    ) -> DelayedWork:
        work = DelayedWork(transfer.op, _flat(out))
        with self._lock:
            if lane not in self._lanes:
                self._lanes[lane] = Lane("-".join(map(str, lane)), self._transfers.append)
            self._lanes[lane].add(work, transfer, agree, real)
        return work


def _flat(tensors: Tensors) -> list[torch.Tensor]:
    return [tensors] if isinstance(tensors, torch.Tensor) else [one for many in tensors for one in _flat(many)]


def _bytes_of(tensors: Tensors) -> int:
    flat = _flat(tensors)
    if strange := {one.device.type for one in flat} - {"cpu"}:
        raise UsageError(f"A throttled fabric carries tensors of the CPU; got {', '.join(strange)}. Use .cpu() first.")
    return sum(one.numel() * one.element_size() for one in flat)
