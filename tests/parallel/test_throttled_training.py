"""DDP, `fully_shard` and tensor parallelism over a throttled fabric: the numbers that gloo gives, and one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import all_gather_tensor, all_reduce, reduce_scatter_tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from labkit.launch import run
from labkit.parallel import throttle

LINK = throttle.Link("own", 20e6, 2e-4)
NODES = throttle.Topology(ranks_per_node=2, inside=LINK, between=throttle.Link("far", 5e6, 1e-3))
WIDTH = 24


def _model() -> torch.nn.Sequential:
    torch.manual_seed(1)
    layer = torch.nn.Linear
    return torch.nn.Sequential(layer(WIDTH, WIDTH), torch.nn.GELU(), layer(WIDTH, WIDTH), layer(WIDTH, WIDTH))


def _batch(rank: int) -> torch.Tensor:
    return torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(rank))  # (batch, width)


def _gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(found) == 6
    return [grad.full_tensor() if isinstance(grad, DTensor) else grad for grad in found]


def single_gradients(n: int) -> list[torch.Tensor]:
    """What one process gets for the mean over the batches of ``n`` ranks."""
    model = _model()
    (sum(model(_batch(rank)).square().mean() for rank in range(n)) / n).backward()
    return _gradients(model)


def ddp(group: dist.ProcessGroup) -> list[torch.Tensor]:
    """Gradients of two steps of DDP, whose buckets are small enough to need several reductions each."""
    model = _model()
    wrapped = DistributedDataParallel(model, process_group=group, bucket_cap_mb=0.002)
    for _ in range(2):
        model.zero_grad()
        wrapped(_batch(group.rank())).square().mean().backward()
    return _gradients(model)


def fsdp(mesh: DeviceMesh, rank: int) -> list[torch.Tensor]:
    model = _model()
    for layer in (model[0], model[2], model[3]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model(_batch(rank)).square().mean().backward()
    return _gradients(model)


def tensor_parallel(mesh: DeviceMesh) -> list[torch.Tensor]:
    """All ranks see the batch of rank 0."""
    model = parallelize_module(_model(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    model(_batch(0)).square().mean().backward()
    return _gradients(model)


def sharded_tensor_parallel(mesh: DeviceMesh) -> list[torch.Tensor]:
    """`fully_shard` over the mesh's "dp", `parallelize_module` over its "tp"."""
    model = parallelize_module(_model(), mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    model(_batch(mesh["dp"].get_local_rank())).square().mean().backward()
    return _gradients(model)


def functional(group: dist.ProcessGroup) -> list[torch.Tensor]:
    """The collectives that DTensor and compiled graphs call. They load torch's compiler, as the wrappers here do."""
    n, own = group.size(), torch.arange(8.0) + group.rank()  # (8,)
    summed, gathered = all_reduce(own, "sum", group), all_gather_tensor(own, 0, group)
    return [summed + 0, gathered + 0, reduce_scatter_tensor(own.repeat(n), "sum", 0, group) + 0]


def _train() -> dict[str, Any]:
    """On each of four ranks: gradients over gloo, over a throttled group, and what went over the links."""
    rank, world = dist.get_rank(), dist.group.WORLD
    gloo_mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    line = init_device_mesh("cpu", (4,))
    gloo = {
        "ddp": ddp(world),
        "fsdp": fsdp(line, rank),
        "tp": tensor_parallel(line),
        "functional": functional(world),
        "fsdp × tp": sharded_tensor_parallel(gloo_mesh),
    }
    with throttle.throttled(LINK) as group:
        line = DeviceMesh.from_group(group, "cpu")
        slow = {"ddp": ddp(group), "fsdp": fsdp(line, rank), "tp": tensor_parallel(line)}
        slow["functional"] = functional(group)
        slow_transfers = group.transfers
    with throttle.throttled_mesh(NODES, (2, 2), ("dp", "tp")) as mesh:
        slow["fsdp × tp"] = sharded_tensor_parallel(mesh)
        links = [mesh.get_group(axis).link for axis in ("dp", "tp")]
        counts = [len(mesh.get_group(axis).transfers) for axis in ("dp", "tp")]
    with throttle.throttled_mesh(LINK, (4,), ("dp",)) as mesh:
        slow["fsdp, one dimension"] = fsdp(mesh, rank)
    gloo["fsdp, one dimension"] = gloo["fsdp"]
    return {"gloo": gloo, "slow": slow, "ops": {t.op for t in slow_transfers}, "links": links, "counts": counts}


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, Any], ...]:
    return run(_train, ranks=4, backend="gloo").values


def _distance(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """‖Δ‖ ÷ ‖reference‖ over all gradients."""
    found_flat, wanted_flat = (torch.cat([grad.flatten() for grad in many]) for many in (found, wanted))
    return float((found_flat - wanted_flat).norm() / wanted_flat.norm())


@pytest.mark.parametrize("how", ["ddp", "fsdp", "tp", "functional", "fsdp × tp", "fsdp, one dimension"])
def test_the_numbers_are_those_over_gloo_bit_for_bit(trained: Any, how: str) -> None:
    for rank in trained:
        assert all(map(torch.equal, rank["slow"][how], rank["gloo"][how]))


@pytest.mark.parametrize(("how", "batches"), [("ddp", 4), ("fsdp", 4), ("tp", 1), ("fsdp × tp", 2)])
def test_the_gradients_are_those_of_one_process(trained: Any, how: str, batches: int) -> None:
    wanted = single_gradients(batches)
    for rank in trained:
        assert _distance(rank["slow"][how], wanted) <= 1e-6


def test_they_went_over_the_link(trained: Any) -> None:
    for rank in trained:
        assert {"all_reduce", "all_gather", "reduce_scatter", "broadcast"} <= rank["ops"]
        assert rank["links"] == [NODES.between, NODES.inside]
        assert min(rank["counts"]) >= 2
