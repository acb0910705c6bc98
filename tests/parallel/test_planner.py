"""The planner: every plan counted, memory as the memory model's, published plans feasible, choices that explain."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import replace

import numpy as np
import pytest

from labkit.errors import UsageError
from labkit.parallel import catalogue
from labkit.parallel.budget import best_plans, within_budget
from labkit.parallel.choice import choose, explain, reason_against
from labkit.parallel.plan_memory import peak_bytes
from labkit.parallel.planner import device_counts, num_knobs, search
from labkit.parallel.published_runs import megatron_2021
from labkit.parallel.shape import named_shape
from labkit.parallel.splits import Job, all_splits

A100 = catalogue.node("a100-80gb")
LLAMA_70B = Job(shape=named_shape("llama-3-70b"), batch_size=1024, seq_len=4096, num_tokens=1e12)
GPT_175B = Job(shape=named_shape("gpt-3-175b"), batch_size=1536, seq_len=2048, num_tokens=300e9)
LAB = Job(shape=named_shape("lab"), batch_size=16, seq_len=128, precision="fp32")


def test_every_split_of_a_small_job_is_there_once() -> None:
    splits = all_splits(LAB, 8, stages=(0,), recompute=(0,))
    rows = {tuple(splits.row(i).values()) for i in range(len(splits))}
    assert len(rows) == len(splits)
    meshes = {(row[0], row[1], row[2]) for row in rows}
    wanted = {(t, p, 8 // t // p) for t in (1, 2, 4) for p in (1, 2, 4) if 8 % (t * p) == 0}  # 12 heads, 12 layers
    assert meshes == wanted
    assert all(
        row["dp"] * row["micro_batch"] * row["num_microbatches"] == 16 for row in map(splits.row, range(len(splits)))
    )


def test_memory_of_all_plans_at_once_is_the_memory_models() -> None:
    plans = search(LLAMA_70B, A100, 64)
    for index in range(0, len(plans), 61):
        assert plans.memory_bytes[index] == pytest.approx(plans.plan(index).memory.total_bytes, rel=1e-12)
    assert (peak_bytes(LLAMA_70B, plans.splits) == plans.memory_bytes).all()


def test_megatrons_published_plans_are_feasible() -> None:
    for run in megatron_2021():
        plans = search(run.job, A100, run.num_devices, tp=run.tp, pp=run.pp, stages=(0,), recompute=(1,))
        assert plans.num_fitting > 0, run.shape


def test_175_billion_parameters_need_more_than_replicas() -> None:
    assert search(GPT_175B, A100, 768, tp=1, pp=1, stages=(0, 1, 2)).num_fitting == 0
    assert search(GPT_175B, A100, 768, tp=8, pp=1, stages=(0,)).num_fitting == 0
    assert search(GPT_175B, A100, 768, tp=1, pp=1, stages=(3,)).num_fitting > 0
    assert search(GPT_175B, A100, 768, tp=8, pp=16).num_fitting > 0


def test_the_best_is_the_fastest_or_simpler_and_hardly_slower() -> None:
    plans = search(LLAMA_70B, A100, 256)
    best, ranked = plans.best(), plans.ranked(20)
    assert best is not None
    assert best.fits
    assert [plan.step_time_s for plan in ranked] == sorted(plan.step_time_s for plan in ranked)
    assert all(plan.fits for plan in ranked)
    assert best.step_time_s <= 1.03 * ranked[0].step_time_s
    nearly = [p for p in plans.ranked(200) if p.step_time_s <= 1.03 * ranked[0].step_time_s and not p.tp_crosses_nodes]
    assert best.num_knobs == min(plan.num_knobs for plan in nearly)
    assert num_knobs(plans.splits)[plans.order[0]] == plans.plan(int(plans.order[0])).num_knobs


def test_the_choice_says_what_is_wrong_with_the_others() -> None:
    choice = choose(LLAMA_70B, A100, 64)
    reasons = {each.kind: each.reason for each in choice.rejected}
    assert "too much, most of it optimizer" in reasons["data"]
    assert "crosses nodes of 8: its all-reduces are" in reasons["tensor across nodes"]
    assert all("× the time" in each.reason or "does not fit" in each.reason for each in choice.rejected)
    [plain] = [each.plan for each in choice.rejected if each.kind == "data"]
    assert plain.missing_bytes == plain.memory.total_bytes - 0.92 * 80 * 2**30
    assert f"{plain.missing_bytes / 2**30:.1f} GiB too much" in reasons["data"]
    fit = [each.plan.fits for each in choice.rejected]
    assert fit == sorted(fit, reverse=True)  # what fits stands before what does not
    assert "MFU" in str(choice)
    assert choice.num_fitting < choice.num_plans
    slower = [each for each in choice.rejected if each.plan.fits][-1].plan
    assert reason_against(slower, choice.best) in {each.reason for each in choice.rejected}


def test_a_plan_says_how_it_is_launched() -> None:
    plan = search(GPT_175B, A100, 768, tp=8, pp=8, stages=(1,)).ranked(1)[0]
    words = shlex.split(plan.torchrun())
    assert words[:3] == ["torchrun", "--nnodes=96", "--nproc-per-node=8"]
    assert words[-1] == "train.py"
    assert plan.device_mesh() == 'init_device_mesh("cuda", (8, 12, 8), mesh_dim_names=("pp", "dp", "tp"))'
    small = search(LAB, A100, 2, tp=2).ranked(1)[0]
    assert small.torchrun() == "torchrun --standalone --nproc-per-node=2 train.py"


def test_money_is_time_and_price() -> None:
    node = catalogue.node("azure-ndm-a100")
    best = search(LLAMA_70B, node, 512).best()
    assert best is not None
    assert best.usd is not None
    assert best.usd_per_billion_tokens is not None
    hours = 1e12 / best.tokens_per_s / 3600
    assert best.usd == pytest.approx(hours * 512 * 32.77 / 8)
    assert best.usd_per_billion_tokens == pytest.approx(best.usd / 1000)
    assert 0.3 < best.mfu < 0.6
    unpriced = search(LLAMA_70B, A100, 512).best()
    assert unpriced is not None
    assert unpriced.usd is None


def test_a_slower_fabric_never_makes_a_faster_plan() -> None:
    seconds = []
    for network in (200e9, 50e9, 10e9, 2e9):
        times = search(LLAMA_70B, replace(A100, network_bytes_per_s=network), 128).times.total_s
        seconds.append(times)
    assert all((later >= earlier - 1e-9).all() for earlier, later in itertools.pairwise(seconds))


def test_what_limits_a_plan() -> None:
    weak = replace(A100, network_bytes_per_s=0.5e9)
    best = search(replace(LLAMA_70B, batch_size=128), weak, 128, tp=1, pp=1).best()
    assert best is not None
    assert best.limit == "gradients and weights between replicas"
    alone = search(replace(LAB, batch_size=64), A100, 1).best()
    assert alone is not None
    assert alone.rungs == ()
    assert alone.name == f"1 device, micro-batch {alone.micro_batch}"


def test_a_budget_is_met_by_the_cheapest_plan_in_time() -> None:
    offers = [catalogue.node("azure-ndm-a100"), catalogue.node("aws-p5-block")]
    job = replace(LLAMA_70B, num_tokens=1e11)
    choice = within_budget(job, offers, max_devices=512, budget_usd=1e6, deadline_days=14)
    plans = best_plans(job, offers, 512)
    good = [plan for plan in plans if plan.days <= 14]
    assert choice.best.days <= 14
    assert choice.best.usd == min(plan.usd or 0.0 for plan in good)


def test_device_counts_are_parts_of_a_node_or_whole_ones() -> None:
    assert device_counts(A100, 40) == [1, 2, 4, 8, 16, 32]
    assert device_counts(replace(A100, devices_per_node=6), 40) == [1, 2, 4]


def wrong_budget(**limits: float) -> object:
    return within_budget(replace(GPT_175B, num_tokens=300e9), [catalogue.node("aws-p5")], max_devices=256, **limits)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: search(LAB, A100, 5 * 8),
            r"No split of 40 devices divides 12 heads .* Use 32 devices, or another batch",
        ),
        (lambda: search(LAB, A100, 8, tp=5), "tp must divide num_heads; got 5 and 12. Use one of 1, 2, 3, 4, 6, 12"),
        (lambda: search(LAB, A100, 8, pp=8), "pp must divide num_layers; got 8 and 12. Use one of 1, 2, 3, 4, 6, 12"),
        (
            lambda: search(LAB, A100, 24, tp=1, pp=1),
            "dp must divide the batch; got 24 and 16 sequences. Use a multiple",
        ),
        (lambda: search(LAB, A100, 8, tp=3), "must divide the number of devices; got 3 and 8"),
        (lambda: search(LAB, A100, 12), "comes in nodes of 8; got 12 devices. Use 8"),
        (lambda: search(LAB, A100, 0), "at least 1 device; got 0"),
        (lambda: search(LAB, A100, 1, micro_batch=3), "with micro_batch 3"),
        (
            lambda: choose(GPT_175B, A100, 8),
            r"needs 36\d\.\d GiB a device where 73\.6 GiB can be used. What fits: 64 × a100",
        ),
        (lambda: choose(LLAMA_70B, catalogue.node("a100-40gb"), 16), r"What fits: 64 × a100-40gb, or 16 × h200"),
        (
            lambda: wrong_budget(budget_usd=1e5),
            r"No plan trains 3e\+11 tokens within 100,000 USD .* tokens on \d+ × aws-p5",
        ),
        (
            lambda: wrong_budget(deadline_days=1),
            r"within inf USD and 1 days. What would do: [\d.]+ days on 256 × aws-p5",
        ),
        (lambda: wrong_budget(budget_usd=0), "must be above 0; got 0 USD"),
        (lambda: best_plans(GPT_175B, [A100], 8), "a100-80gb has no price"),
        (lambda: within_budget(LAB, [catalogue.node("aws-p5")]), "give the job num_tokens"),
        (lambda: within_budget(GPT_175B, []), "at least one offer"),
        (lambda: within_budget(GPT_175B, [catalogue.node("aws-g5")], max_devices=8), "No plan fits 8 × a10g"),
        (lambda: Job(shape=LAB.shape, batch_size=0, seq_len=1), "at least 1 sequence"),
        (lambda: replace(LAB, num_tokens=-1), "num_tokens must be finite"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]


def test_explain_is_choose_of_a_search() -> None:
    assert explain(search(LAB, A100, 4)) == choose(LAB, A100, 4)
    assert np.isfinite(search(LAB, A100, 4).times.total_s).all()
