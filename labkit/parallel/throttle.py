"""A slower fabric, for real: torch.distributed inside a rank, over a link chosen by its latency and bandwidth."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from labkit.errors import UsageError
from labkit.parallel.links import Link, LinkQueue, Topology, named_link, ring_bytes_sent
from labkit.parallel.throttled_group import Port, ThrottledGroup
from labkit.units import MIB, format_quantity

__all__ = ["Link", "Topology", "named_link", "throttled", "throttled_mesh"]

CPU = torch.device("cpu")
PROBE_BYTES, MOST_PROBES = 4 * MIB, 20
TIMEOUT_S = 120.0


@contextmanager
def throttled(
    over: Link | Topology, *, ranks: Sequence[int] | None = None, timeout_s: float = TIMEOUT_S
) -> Iterator[ThrottledGroup]:
    """A process group for DDP, device meshes and every dist call, whose transfers take the time that ``over`` gives.

    Called inside a rank, by every rank. ranks: of these alone; the others enter as well, and get no group.

    A transfer begins when all its ranks have come and their links are free, and takes steps · α + bytes ÷ bandwidth by
    the ring's formulas; a link carries one transfer after another. Its Work completes then, or when gloo is done if
    that is later; the caller never sleeps unless it waits. A send holds the sender's link; a receiver's is not held.

    UsageError: outside a rank, ranks on several machines (they compare their clocks), or a link that is faster than
    this machine's own, which the entry measures.
    """
    members = tuple(range(_world_size()) if ranks is None else sorted(ranks))  # as torch orders a group
    if not members or len(set(members)) < len(members) or not set(members) <= set(range(_world_size())):
        raise UsageError(f"ranks must be different ones of 0 to {_world_size() - 1}; got {list(members)}.")
    with _fabric(over, timeout_s) as fabric:
        yield fabric.group(members)


@contextmanager
def throttled_mesh(
    over: Link | Topology, shape: Sequence[int], names: Sequence[str], *, timeout_s: float = TIMEOUT_S
) -> Iterator[DeviceMesh]:
    """A device mesh of all ranks whose every dimension is throttled: by ``over`` a `Topology`, those within a node by
    its inner link and the others by its outer. One rank's transfers over one link queue up, whatever their group."""
    if len(shape) != len(names) or min(shape, default=0) < 1 or math.prod(shape) != _world_size():
        raise UsageError(f"shape must name {_world_size()} ranks, a name a dimension; got {shape} and {names}.")
    with _fabric(over, timeout_s) as fabric:
        mesh = torch.arange(math.prod(shape)).reshape(*shape)
        groups = [
            [fabric.group(tuple(row)) for row in mesh.movedim(axis, -1).reshape(-1, size).tolist()]
            for axis, size in enumerate(shape)
        ]
        mine: list[Any] = [next(one for one in rows if isinstance(one, ThrottledGroup)) for rows in groups]
        if len(mine) == 1:
            yield DeviceMesh.from_group(mine[0], "cpu", mesh_dim_names=tuple(names))
        else:
            yield DeviceMesh.from_group(mine, "cpu", mesh=mesh, mesh_dim_names=tuple(names))


class _Fabric:
    """What one rank has at its links: a queue a link, the groups that use them, and gloo below."""

    def __init__(self, over: Link | Topology, timeout_s: float) -> None:
        if not isinstance(over, Link | Topology):
            raise UsageError(f'A fabric is a Link or a Topology; got {over!r}. named_link("pcie", 1000) makes one.')
        if not 0 < timeout_s < math.inf:
            raise UsageError(f"timeout_s must be a finite number of seconds above 0; got {timeout_s!r}.")
        self.over, self.timeout = over, timedelta(seconds=timeout_s)
        self.queues: dict[Link, LinkQueue] = {}
        self.made: list[dist.ProcessGroup] = []

    def choose(self, ranks: tuple[int, ...]) -> tuple[Link, LinkQueue]:
        link = self.over if isinstance(self.over, Link) else self.over.link(ranks)
        return link, self.queues.setdefault(link, LinkQueue())

    def gloo(self, ranks: tuple[int, ...]) -> Any:
        return self.new_group(ranks, backend="gloo")

    def group(self, ranks: tuple[int, ...]) -> Any:
        """Made by all ranks together; no ThrottledGroup where this rank is not among them."""
        inner, control = self.gloo(ranks), self.gloo(ranks)
        if not hasattr(dist.Backend, "THROTTLED"):
            dist.Backend.register_backend("throttled", _create, extended_api=True, devices=["cpu"])
        return self.new_group(ranks, backend="throttled", pg_options=(inner, control, Port(ranks, self.choose)))

    def new_group(self, ranks: tuple[int, ...], **options: Any) -> Any:
        group = dist.new_group(list(ranks), timeout=self.timeout, **options)
        if dist.get_rank() in ranks:
            self.made.append(group)
        return group


def _create(options: Any, parts: tuple[dist.ProcessGroup, dist.ProcessGroup, Port]) -> ThrottledGroup:
    inner, control, port = parts
    return ThrottledGroup(options.group_rank, inner, control._get_backend(CPU), port)


@contextmanager
def _fabric(over: Link | Topology, timeout_s: float) -> Iterator[_Fabric]:
    _world_size()
    fabric = _Fabric(over, timeout_s)
    everyone = fabric.gloo(tuple(range(dist.get_world_size())))
    backend: Any = everyone._get_backend(CPU)
    _need_one_machine(backend)
    links = [over] if isinstance(over, Link) else [over.inside, over.between]
    _need_slower(max(links, key=lambda link: link.bandwidth_bytes_per_s), backend)
    yield fabric  # what fails in the block fails its rank: then there is nobody to wait for
    for group in fabric.made:
        if isinstance(group, ThrottledGroup):
            group.close()
    backend.barrier().wait()  # none closes what another still reads from
    for group in reversed(fabric.made):
        dist.destroy_process_group(group)


def _world_size() -> int:
    if not dist.is_initialized():
        raise UsageError(
            "throttled() is for a rank; there is none here. Call it inside labkit.launch.run(fn, ranks=2)."
        )
    return dist.get_world_size()


def _largest(backend: Any, *values: float) -> list[float]:
    """The largest that any rank has of each value."""
    agreed = torch.tensor(values, dtype=torch.float64)
    options = dist.distributed_c10d.AllreduceOptions()
    options.reduceOp = dist.ReduceOp.MAX  # type: ignore[assignment]
    backend.allreduce([agreed], options).wait()
    found: list[float] = agreed.tolist()
    return found


def _machine_id() -> int:
    booted = Path("/proc/sys/kernel/random/boot_id")  # also of a container: it has the clock of its host
    return crc32(booted.read_bytes() if booted.exists() else platform.node().encode())


def _need_one_machine(backend: Any) -> None:
    highest, lowest = _largest(backend, _machine_id(), -_machine_id())
    if highest != -lowest:
        raise UsageError('A throttled fabric needs all ranks on one machine; got several. Launch them with on="local".')


def _need_slower(link: Link, backend: Any) -> None:
    """All-reduces tell what gloo can do here. One that is disturbed must not refuse a link: the best of many does."""
    n, data, own = backend.size(), torch.zeros(PROBE_BYTES // 4), 0.0
    if n == 1:
        return
    for _ in range(MOST_PROBES):
        backend.barrier().wait()
        started = time.perf_counter()
        backend.allreduce([data]).wait()
        slowest_s = _largest(backend, time.perf_counter() - started)[0]
        own = max(own, ring_bytes_sent("all_reduce", PROBE_BYTES, n) / slowest_s)
        if own >= link.bandwidth_bytes_per_s:
            return
    asked, most = (format_quantity(rate, "B/s") for rate in (link.bandwidth_bytes_per_s, own))
    cure = f"Use .slowed({math.ceil(2 * link.bandwidth_bytes_per_s / own)})"
    raise UsageError(f"{link.name} must be slower than gloo between {n} ranks here, {most}; got {asked}. {cure}.")
