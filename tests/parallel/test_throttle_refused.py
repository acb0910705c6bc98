"""What a throttled fabric refuses, and that none waits for ever on a rank that has gone."""

from __future__ import annotations

import importlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from labkit.errors import LaunchError, RankError, UsageError
from labkit.launch import run
from labkit.parallel import throttle
from labkit.parallel.throttled_group import ThrottledGroup

LINK = throttle.Link("own", 20e6, 1e-3)


def test_outside_a_rank() -> None:
    for entry in (throttle.throttled(LINK), throttle.throttled_mesh(LINK, (2,), ("dp",))):
        with pytest.raises(UsageError, match=r"is for a rank; there is none here\. Call it inside labkit\.launch\.run"):
            entry.__enter__()


def _refusals() -> dict[str, str]:
    said: dict[str, str] = {}

    def refused(name: str, call: Any) -> None:
        with pytest.raises(UsageError) as caught:
            call()
        said[name] = str(caught.value)

    def enter(over: Any, ranks: Any = None) -> None:
        with throttle.throttled(over, ranks=ranks):
            pass

    def mesh(shape: tuple[int, ...], names: tuple[str, ...]) -> None:
        with throttle.throttled_mesh(LINK, shape, names):
            pass

    refused("too fast", lambda: enter(throttle.named_link("nvlink")))
    far = throttle.Topology(ranks_per_node=1, inside=LINK, between=throttle.Link("far", 1e15))
    refused("too fast between", lambda: enter(far))
    refused("not a link", lambda: enter(50e6))
    for name, ranks in (("nobody", []), ("twice", [1, 1]), ("stranger", [0, 2])):
        refused(name, lambda ranks=ranks: enter(LINK, ranks))
    refused("shape", lambda: mesh((2, 2), ("dp", "tp")))
    refused("no size", lambda: mesh((-1, -2), ("dp", "tp")))
    refused("timeout", lambda: throttle.throttled(LINK, timeout_s=float("nan")).__enter__())
    refused("names", lambda: mesh((1, 2), ("dp",)))
    with throttle.throttled(LINK) as group:
        refused("device", lambda: dist.all_reduce(torch.empty(3, device="meta"), group=group))
        refused("any source", lambda: dist.recv(torch.empty(3), group=group))
        receiving = dist.irecv(torch.empty(3), group=group, group_src=1 - group.rank())
        with pytest.raises(RuntimeError) as late:  # nobody has sent
            receiving.wait(timedelta(seconds=0.01))
        said["late"] = str(late.value)
        dist.barrier()
        sending = dist.isend(torch.ones(3), group=group, group_dst=1 - group.rank())
        assert (sending.wait(), receiving.wait(), receiving.is_success(), receiving.result()[0].tolist()) == (
            True, True, True, [1.0, 1.0, 1.0],
        )  # fmt: skip
    throttle._machine_id = dist.get_rank  # as on two machines
    refused("machines", lambda: enter(LINK))
    return said


def test_what_is_refused_on_every_rank() -> None:
    first, second = run(_refusals, ranks=2, backend="gloo").values
    assert first == second
    assert first["too fast"].startswith("NVLink 4 (H100) must be slower than gloo between 2 ranks here, ")
    assert "; got 450 GB/s. Use .slowed(" in first["too fast"]
    assert first["too fast between"].startswith("far must be slower than gloo")
    assert (
        first["not a link"] == 'A fabric is a Link or a Topology; got 50000000.0. named_link("pcie", 1000) makes one.'
    )
    for name, came in (("nobody", "[]"), ("twice", "[1, 1]"), ("stranger", "[0, 2]")):
        assert first[name] == f"ranks must be different ones of 0 to 1; got {came}."
    assert first["shape"] == "shape must name 2 ranks, a name a dimension; got (2, 2) and ('dp', 'tp')."
    assert first["no size"] == "shape must name 2 ranks, a name a dimension; got (-1, -2) and ('dp', 'tp')."
    assert first["timeout"] == "timeout_s must be a finite number of seconds above 0; got nan."
    assert first["names"] == "shape must name 2 ranks, a name a dimension; got (1, 2) and ('dp',)."
    assert first["device"] == "A throttled fabric carries tensors of the CPU; got meta. Use .cpu() first."
    assert first["any source"].startswith("A throttled recv must name the rank that it waits for; got none.")
    assert first["late"] == "recv was not done within 0.01 s."
    assert first["machines"].startswith("A throttled fabric needs all ranks on one machine; got several.")


def test_alone_a_rank_waits_for_nobody() -> None:
    def alone() -> tuple[list[float], float]:
        with throttle.throttled(throttle.named_link("nvlink")) as group:  # nothing is sent: no link is too fast
            dist.all_reduce(data := torch.ones(3), group=group)
            (transfer,) = group.transfers
        return data.tolist(), transfer.finish_s - transfer.start_s

    assert run(alone, ranks=1, backend="gloo").values == (([1.0, 1.0, 1.0], 0.0),)


def _loses_a_rank(folder: Path, how: str) -> None:
    """Rank 1 goes while the others wait: in a collective and for a message, or in the backward of DDP."""
    with throttle.throttled(LINK) as group:
        model = DistributedDataParallel(torch.nn.Linear(8, 8), process_group=group)
        data = torch.ones(1000)
        dist.barrier()
        if group.rank() == 1:
            if how == "raises":
                raise ArithmeticError("on its own account")
            os._exit(3)
        try:
            if how == "leaves":
                model(torch.ones(1, 8)).sum().backward()
            elif group.rank() == 0:
                dist.all_reduce(data, group=group)
            else:
                dist.recv(data, group=group, group_src=1)
        except RuntimeError as error:
            (folder / f"{group.rank()}.txt").write_text(str(error))
            raise


@pytest.mark.parametrize("how", ["raises", "leaves"])
def test_a_rank_that_goes_is_the_one_that_is_named_and_the_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(importlib.import_module("labkit.launch.run"), "OTHERS_GRACE_S", 30.0)  # until all have said it
    error, said = {
        "raises": (RankError, "rank 1 of 3 raised ArithmeticError: on its own account"),
        "leaves": (LaunchError, "rank 1 of 3 left with exit code 3"),
    }[how]
    with pytest.raises(error, match=said):
        run(_loses_a_rank, tmp_path, how, ranks=3, backend="gloo", deadline_s=60)
    told = {path.stem: path.read_text() for path in tmp_path.iterdir()}
    ops = {"raises": {"0": "all_reduce", "2": "recv"}, "leaves": {"0": "all_reduce", "2": "all_reduce"}}[how]
    assert told.keys() == ops.keys()
    for rank, op in ops.items():
        assert f"{op} over the throttled fabric failed. Another rank has gone, or did not make" in told[rank]


def test_no_call_that_carries_data_is_left_to_gloo_alone() -> None:
    """What ThrottledGroup does not override would run at full speed and say nothing."""
    harmless = {
        "abort", "bound_device_id", "boxed", "get_group_store", "group_desc", "group_name", "merge_remote_group",
        "monitored_barrier", "name", "rank", "set_timeout", "shutdown", "size", "split_group", "unbox",
        "use_pg_for_symm_mem_rendezvous",
    }  # fmt: skip
    calls = {name for name in dir(dist.ProcessGroup) if name.islower() and not name.startswith("_")} - harmless
    calls |= {"_allgather_base", "_reduce_scatter_base"}
    assert calls - vars(ThrottledGroup).keys() == set()
