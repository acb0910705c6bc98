"""What a rank says to the others: every collective, send and receive that passes torch.distributed, with its bytes.

All of them are dispatched operators, so one TorchDispatchMode sees them: hand-written isend and irecv, dist.all_reduce,
functional collectives, DTensor's own, and those that DDP's reducer calls from C++.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from labkit.errors import NotMeasurableError

__all__ = ["Call", "Traffic", "count_traffic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. num_bytes is the logical tensor: an all-gather's output, a reduce-scatter's input, a send's tensor."""

    op: str
    num_bytes: int
    world_size: int

    @property
    def bytes_sent(self) -> float:
        """What this rank sends: exact for a send; for a collective by its ring, as a mean over the ranks."""
        if self.op in ("send", "recv"):
            return float(self.num_bytes) if self.op == "send" else 0.0
        rounds = 2 if self.op == "all_reduce" else 1  # a reduce-scatter and an all-gather
        return rounds * (self.world_size - 1) / self.world_size * self.num_bytes


class Traffic:
    """The calls of one rank, in their order, as they come in."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[Call] = []

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(self._calls)

    @property
    def bytes_sent(self) -> float:
        """Bytes that this rank sends, over all calls; see Call.bytes_sent."""
        return sum(call.bytes_sent for call in self._calls)

    def num_calls(self, op: str) -> int:
        return sum(call.op == op for call in self._calls)

    def payload_bytes(self, op: str) -> int:
        """The logical bytes of all calls of one kind."""
        return sum(call.num_bytes for call in self._calls if call.op == op)


@contextmanager
def count_traffic() -> Iterator[Traffic]:
    """Count what this rank sends and receives inside the block, on any backend, also on a fake process group.

    The kinds: all_reduce, all_gather, reduce_scatter, broadcast, all_to_all, send, recv; and reduce, gather and
    scatter, whose bytes are one rank's tensor. Barriers carry no bytes and are left out.
    NotMeasurableError: a collective that this module does not know, so that none goes uncounted.
    """
    traffic = Traffic()
    with _Counting(traffic):
        yield traffic


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, traffic: Traffic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.traffic = traffic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, torch.distributed.tensor.DTensor) for kind in types):
            return NotImplemented  # it desugars into collectives over plain tensors, which then come here
        kwargs = kwargs or {}
        call = _call_of(func, args, kwargs)
        out = func(*args, **kwargs)
        if call is not None:
            self.traffic._calls.append(call)
        return out


def _bytes_of(found: Any) -> int:
    if isinstance(found, torch.Tensor):
        return found.numel() * found.element_size()
    return sum(map(_bytes_of, found))


Count = Callable[[Any, int], int]  # (the operator's arguments, ranks of its group) -> bytes


def _first(args: Any, world_size: int) -> int:
    return _bytes_of(args[0])


def _second(args: Any, world_size: int) -> int:
    return _bytes_of(args[1])


def _first_of_each(args: Any, world_size: int) -> int:
    return world_size * _bytes_of(args[0])


C10D: dict[str, tuple[str, Count]] = {  # in place: (outputs, inputs, group, …), or (tensors, group, …)
    "allreduce_": ("all_reduce", _first),
    "allreduce_coalesced_": ("all_reduce", _first),
    "allgather_": ("all_gather", _first),
    "_allgather_base_": ("all_gather", _first),
    "allgather_coalesced_": ("all_gather", _first),
    "allgather_into_tensor_coalesced_": ("all_gather", _first),
    "reduce_scatter_": ("reduce_scatter", _second),
    "_reduce_scatter_base_": ("reduce_scatter", _second),
    "reduce_scatter_tensor_coalesced_": ("reduce_scatter", _second),
    "alltoall_": ("all_to_all", _second),
    "alltoall_base_": ("all_to_all", _second),
    "broadcast_": ("broadcast", _first),
    "reduce_": ("reduce", _first),
    "gather_": ("gather", _second),
    "scatter_": ("scatter", _first),
    "send": ("send", _first),
    "recv_": ("recv", _first),
    "recv_any_source_": ("recv", _first),
}
FUNCTIONAL: dict[str, tuple[str, Count]] = {  # (inputs, …, name of the group)
    "all_reduce": ("all_reduce", _first),
    "all_reduce_": ("all_reduce", _first),
    "all_reduce_coalesced": ("all_reduce", _first),
    "all_reduce_coalesced_": ("all_reduce", _first),
    "all_gather_into_tensor": ("all_gather", _first_of_each),
    "all_gather_into_tensor_out": ("all_gather", _first_of_each),
    "all_gather_into_tensor_coalesced": ("all_gather", _first_of_each),
    "reduce_scatter_tensor": ("reduce_scatter", _first),
    "reduce_scatter_tensor_out": ("reduce_scatter", _first),
    "reduce_scatter_tensor_coalesced": ("reduce_scatter", _first),
    "all_to_all_single": ("all_to_all", _first),
    "broadcast": ("broadcast", _first),
    "broadcast_": ("broadcast", _first),
    "isend": ("send", _first),
    "irecv": ("recv", _first),
    "shard_dim_alltoall": ("all_to_all", _first),  # DTensor's, in one operator where the backend has it
}
NO_BYTES = {"barrier", "monitored_barrier_", "check_for_nan", "wait_tensor", "_wrap_tensor_autograd"}
TABLES = {"c10d": C10D, "_c10d_functional": FUNCTIONAL, "_dtensor": FUNCTIONAL}


def _call_of(func: Any, args: Any, kwargs: Any) -> Call | None:
    if not isinstance(func, torch._ops.OpOverload) or func.namespace not in TABLES:
        return None
    name = func._overloadpacket.__name__
    if name in NO_BYTES:
        return None
    known = TABLES[func.namespace].get(name)
    if known is None:
        raise NotMeasurableError(f"count_traffic does not know {func}; its bytes would go uncounted.")
    op, count = known
    given = {**dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)), **kwargs}
    world_size = _world_size(given)
    return Call(op=op, num_bytes=count(list(given.values()), world_size), world_size=world_size)


def _world_size(given: dict[str, Any]) -> int:
    group: Any = given.get("process_group", given.get("group_name"))
    if isinstance(group, torch.ScriptObject):
        group = dist.ProcessGroup.unbox(group)
    elif not isinstance(group, dist.ProcessGroup):  # its name
        group = torch._C._distributed_c10d._resolve_process_group(group)
    return int(group.size())
