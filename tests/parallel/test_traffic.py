"""Traffic counted on real ranks: by hand, the library's collectives, functional ones, DTensor's and DDP's."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from labkit import launch
from labkit.parallel.traffic import Call, count_traffic


def talk() -> dict[str, tuple[Call, ...]]:
    import torch.distributed._functional_collectives as funcol
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    rank, size = dist.get_rank(), dist.get_world_size()
    tensor = torch.ones(8)  # 32 bytes
    linear = torch.nn.Linear(3, 5)
    made = torch.nn.parallel.DistributedDataParallel(linear)
    mesh = init_device_mesh("cpu", (size,))

    def by_hand() -> None:
        got = torch.empty(8)
        sending = dist.isend(tensor, (rank + 1) % size)
        dist.irecv(got, (rank - 1) % size).wait()
        sending.wait()

    def listed() -> None:
        parts = [torch.empty(4), torch.empty(4)]
        dist.all_gather([torch.empty(8), torch.empty(8)], tensor)
        dist.reduce_scatter(torch.empty(4), list(tensor.chunk(size)))
        dist.all_to_all(parts, list(tensor.chunk(size)))
        dist.all_reduce_coalesced([torch.ones(8), torch.ones(2)])

    def functional() -> None:
        world = dist.group.WORLD
        funcol.all_reduce(tensor, "sum", world).sum()
        funcol.all_gather_tensor(tensor, 0, world).sum()
        funcol.reduce_scatter_tensor(tensor, "sum", 0, world).sum()
        funcol.all_to_all_single(tensor, None, None, world).sum()
        funcol.broadcast(tensor, 0, world).sum()

    def rooted() -> None:
        dist.reduce(torch.ones(8), 0)
        dist.gather(tensor, [torch.empty(8), torch.empty(8)] if rank == 0 else None)
        dist.scatter(torch.empty(8), [tensor, tensor] if rank == 0 else None)
        dist.barrier()

    def tensors_of_a_mesh() -> None:
        distribute_tensor(tensor, mesh, [Shard(0)], src_data_rank=None).redistribute(
            mesh, [Replicate()]
        ).to_local().sum()

    actions = {
        "by hand": by_hand,
        "all_reduce": lambda: dist.all_reduce(torch.ones(8)),
        "a group of one": lambda: dist.all_reduce(torch.ones(8), group=alone),
        "broadcast": lambda: dist.broadcast(torch.ones(8), 0),
        "all_gather": lambda: dist.all_gather_into_tensor(torch.empty(8 * size), tensor),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(torch.empty(8 // size), torch.ones(8)),
        "all_to_all": lambda: dist.all_to_all_single(torch.empty(8), tensor),
        "listed": listed,
        "functional": functional,
        "rooted": rooted,
        "DTensor": tensors_of_a_mesh,
        "DDP": lambda: made(torch.ones(2, 3)).sum().backward(),
        "nothing": lambda: tensor.sum(),
    }
    alone, _ = dist.new_subgroups(1)
    seen = {}
    for name, act in actions.items():
        with count_traffic() as traffic:
            act()
        seen[name] = traffic.calls
    with count_traffic() as traffic:
        by_hand()
        dist.all_reduce(torch.ones(8))
    assert (traffic.num_calls("all_reduce"), traffic.payload_bytes("all_reduce")) == (1, 32)
    assert traffic.bytes_sent == 32 + 32  # the ring of two sends 2·(1/2)·32
    return seen


def call(op: str, num_bytes: int, world_size: int = 2) -> Call:
    return Call(op=op, num_bytes=num_bytes, world_size=world_size)


def test_every_way_to_talk_is_counted() -> None:
    for seen in launch.run(talk, ranks=2, backend="gloo").values:
        assert seen == {
            "by hand": (call("send", 32), call("recv", 32)),
            "all_reduce": (call("all_reduce", 32),),
            "a group of one": (call("all_reduce", 32, 1),),
            "broadcast": (call("broadcast", 32),),
            "all_gather": (call("all_gather", 64),),
            "reduce_scatter": (call("reduce_scatter", 32),),
            "all_to_all": (call("all_to_all", 32),),
            "listed": (
                call("all_gather", 64),
                call("reduce_scatter", 32),
                call("all_to_all", 32),
                call("all_reduce", 40),
            ),
            "functional": (
                call("all_reduce", 32),
                call("all_gather", 64),
                call("reduce_scatter", 32),
                call("all_to_all", 32),
                call("broadcast", 32),
            ),
            "rooted": (call("reduce", 32), call("gather", 32), call("scatter", 32)),
            "DTensor": (call("all_gather", 32),),
            "DDP": (call("all_reduce", (3 * 5 + 5) * 4),),
            "nothing": (),
        }


@pytest.mark.parametrize(
    ("op", "sent"), [("all_reduce", 150), ("all_gather", 75), ("reduce_scatter", 75), ("send", 100), ("recv", 0)]
)
def test_a_rank_sends_its_share_of_the_ring(op: str, sent: float) -> None:
    assert call(op, 100, world_size=4).bytes_sent == sent
