"""Every schedule, run on real ranks: losses and gradients of one process, torch's own, bytes sent, activations held."""

from __future__ import annotations

import copy
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from labkit.errors import LaunchError, UsageError
from labkit.launch import run
from labkit.models import Transformer, TransformerConfig, load_transformer
from labkit.parallel.pipeline import Pipeline, next_token_loss
from labkit.parallel.pipeline_mail import Mail
from labkit.parallel.pipeline_parts import Part, part_layers
from labkit.parallel.schedule_timeline import held_activations
from labkit.parallel.schedules import SCHEDULES, Action, Schedule, make_schedule
from labkit.parallel.traffic import count_traffic

SMALL = {
    "vocab_size": 128, "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
SEQ_LEN = 8
MICROBATCHES = 12  # whole rounds of two, three and four stages
NAMES = tuple(SCHEDULES)
CHUNKS = {2: 3, 3: 2, 4: 3}


def small_model(*, tied: bool) -> Transformer:
    torch.manual_seed(1)
    return Transformer(TransformerConfig(**SMALL, tie_word_embeddings=tied))


def batch_of(batch_size: int, seq_len: int = SEQ_LEN, vocab_size: int = 128) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    text = torch.randint(0, vocab_size, (batch_size, seq_len + 1))
    return text[:, :-1], text[:, 1:]


def of_one_process(model: Transformer, tokens: Tensor, targets: Tensor) -> tuple[float, dict[str, Tensor]]:
    """The loss and the gradients that the pipeline must give, by the names that its stages use."""
    alone = copy.deepcopy(model)
    loss = next_token_loss(alone(tokens), targets)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in alone.named_parameters()}
    return float(loss), {"lm_head.weight": alone.lm_head.weight.grad, **gradients}


def relative(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """‖Δ‖ ÷ ‖reference‖ over all of a stage's gradients."""
    off = sum(float((got[name] - wanted[name]).square().sum()) for name in got)
    return (off / sum(float(wanted[name].square().sum()) for name in got)) ** 0.5


def schedule_of(name: str, stages: int) -> Schedule:
    return make_schedule(name, stages, MICROBATCHES, CHUNKS[stages] if name == "interleaved 1F1B" else 1)


def every_depth(depths: tuple[int, ...]) -> dict[int, dict[str, dict[str, Any]]]:
    """On a rank: what ``ours`` finds with as many stages as each depth says, over the first ranks."""
    found = {}
    for stages in depths:
        group = dist.new_group(list(range(stages)), backend="gloo")
        if dist.get_rank() < stages:
            found[stages] = ours(stages, group)
    return found


def ours(stages: int, group: dist.ProcessGroup) -> dict[str, dict[str, Any]]:
    """Every schedule against one process, twice, for what the first step leaves behind."""
    model = small_model(tied=True)
    tokens, targets = batch_of(MICROBATCHES)
    loss, wanted = of_one_process(model, tokens, targets)
    found = {}
    for name in NAMES:
        pipeline = Pipeline(model, schedule_of(name, stages), batch_size=MICROBATCHES, seq_len=SEQ_LEN, group=group)
        pipeline.step(tokens, targets)
        with count_traffic() as traffic:
            step = pipeline.step(tokens, targets, count_activations=True)
        found[name] = {
            "loss": None if step.loss is None else abs(step.loss / loss - 1),
            "gradients": relative(pipeline.gradients, wanted),
            "num_gradients": len(pipeline.gradients),
            "num_parameters": len(list(pipeline.parts.parameters())),
            "sent": traffic.payload_bytes("send"),
            "received": traffic.payload_bytes("recv"),
            "activations": step.peak_activation_bytes,
            "actions": [span.name for span in step.timeline.spans],
        }
    return found


@pytest.fixture(scope="module")
def four_ranks() -> tuple[dict[int, dict[str, dict[str, Any]]], ...]:
    return run(every_depth, (2, 3, 4), ranks=4, backend="gloo").values


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_every_schedule_equals_one_process(four_ranks: tuple[dict[int, Any], ...], stages: int) -> None:
    m, ranks = MICROBATCHES, [rank[stages] for rank in four_ranks[:stages]]
    letter = SEQ_LEN * SMALL["hidden_size"] * 4  # bytes of a micro-batch of one sequence at a boundary, fp32
    tied = SMALL["vocab_size"] * SMALL["hidden_size"] * 4
    for name in NAMES:
        each, schedule = [rank[name] for rank in ranks], schedule_of(name, stages)
        assert [one["loss"] is None for one in each] == [True] * (stages - 1) + [False]
        assert each[-1]["loss"] <= 1e-5
        assert max(one["gradients"] for one in each) <= 1e-5, name
        assert all(one["num_gradients"] == one["num_parameters"] for one in each), name
        assert [one["actions"] for one in each] == [[str(a) for a in row] for row in schedule.actions]
        # 2 · b·s·h a boundary and micro-batch, and the tied embedding's gradient once each way
        assert sum(one["sent"] for one in each) == 2 * m * (schedule.num_parts - 1) * letter + 2 * tied
        assert [one["sent"] for one in each] == [one["received"] for one in each]
    # What autograd keeps: a middle stage's micro-batches are all alike, so the peak is as many as are held.
    gpipe, plain = ([rank[name]["activations"] for rank in ranks] for name in ("GPipe", "1F1B"))
    held = held_activations(make_schedule("1F1B", stages, m))
    for stage in range(stages - 1):  # the last one also holds logits, which its backward lets go in parts
        assert plain[stage] / gpipe[stage] == pytest.approx(held[stage] / m, rel=0.01)
    assert plain[-1] < gpipe[-1] / 2
    assert max(rank["ZB-H1"]["activations"] for rank in ranks) <= 1.05 * max(gpipe) * stages / m


def torchs_schedules() -> dict[str, tuple[float | None, float]]:
    """On a rank: torch's pipelines over the same parts, their gradients against our pipeline's."""
    from torch.distributed import pipelining
    from torch.distributed.pipelining import schedules as torchs

    rank, p, model = dist.get_rank(), dist.get_world_size(), small_model(tied=False)
    tokens, targets = batch_of(2 * p)
    pairs = {
        "ScheduleGPipe": ("GPipe", [rank], p),
        "Schedule1F1B": ("1F1B", [rank], p),
        "ScheduleInterleaved1F1B": ("interleaved 1F1B", [rank, rank + p], 2 * p),
        "ScheduleInterleavedZeroBubble": ("ZB-H1", [rank, rank + p], 2 * p),
        "ScheduleZBVZeroBubble": ("ZB-H1", [rank, 2 * p - 1 - rank], 2 * p),
    }
    found: dict[str, tuple[float | None, float]] = {}
    for theirs, (name, numbers, num_parts) in pairs.items():
        whole = copy.deepcopy(model)
        parts = {number: Part(whole, num_parts, number) for number in numbers}
        stages = [
            pipelining.PipelineStage(part, number, num_parts, torch.device("cpu")) for number, part in parts.items()
        ]
        single = len(stages) == 1
        schedule = getattr(torchs, theirs)(stages[0] if single else stages, 2 * p, loss_fn=next_token_loss)
        losses: list[Tensor] = []
        last = {"target": targets, "losses": losses} if num_parts - 1 in numbers else {}
        schedule.step(*([tokens] if 0 in numbers else []), **last)
        chunks = len(stages) if name == "interleaved 1F1B" else 1
        mine = Pipeline(model, make_schedule(name, p, 2 * p, chunks), batch_size=2 * p, seq_len=SEQ_LEN)
        step = mine.step(tokens, targets)
        theirs_gradients = {n: q.grad for part in parts.values() for n, q in part.named_parameters()}
        shared = {n: g for n, g in mine.gradients.items() if n in theirs_gradients}
        assert shared, (theirs, numbers)
        loss = abs(step.loss / float(torch.stack(losses).mean()) - 1) if step.loss is not None and losses else None
        found[theirs] = loss, relative(shared, theirs_gradients)
    return found


def test_torchs_own_pipelines_give_the_same() -> None:
    ranks = run(torchs_schedules, ranks=2, backend="gloo").values
    for theirs in ranks[0]:
        losses = [rank[theirs][0] for rank in ranks if rank[theirs][0] is not None]
        assert theirs == "ScheduleZBVZeroBubble" or losses  # its last part lies on the first rank
        assert all(loss <= 1e-5 for loss in losses)
        assert all(rank[theirs][1] <= 1e-5 for rank in ranks), theirs


def real_model(folder: Path) -> dict[tuple[int, str], tuple[float | None, float]]:
    """On a rank: SmolLM2 in two and in three stages, six short sequences; each rank computes the whole too. In float64:
    in float32 some processors' products of one sequence and of six differ by 4e-5 of the gradients."""
    model = load_transformer(folder, dtype=torch.float64).requires_grad_()
    tokens, targets = batch_of(6, 12, model.config.vocab_size)
    loss, wanted = of_one_process(model, tokens, targets)
    found = {}
    for stages in (2, 3):
        group = dist.new_group(list(range(stages)), backend="gloo")
        for name in NAMES if dist.get_rank() < stages else ():
            schedule = make_schedule(name, stages, 6, 5 if name == "interleaved 1F1B" else 1)
            pipeline = Pipeline(model, schedule, batch_size=6, seq_len=12, group=group)
            step = pipeline.step(tokens, targets)
            found[stages, name] = step.loss and abs(step.loss / loss - 1), relative(pipeline.gradients, wanted)
    return found


def test_smollm2_in_two_and_three_stages_equals_one_process(smollm2: Path) -> None:
    ranks = run(real_model, smollm2, ranks=3, backend="gloo", deadline_s=180).values
    for stages in (2, 3):
        for name in NAMES:
            each = [rank[stages, name] for rank in ranks[:stages]]
            assert each[-1][0] is not None
            assert each[-1][0] <= 1e-6  # next_token_loss is in float32
            assert all(gradients <= 1e-12 for _, gradients in each), (stages, name, each)


def refused() -> list[str]:
    """On a rank: what is refused before anything is sent. What differs between ranks is said by all of them."""
    rank, model = dist.get_rank(), small_model(tied=True)
    mixed = small_model(tied=True).to(torch.float64 if rank else torch.float32)
    halved = small_model(tied=True)
    halved.layers[3].to(torch.bfloat16)
    plain = make_schedule("1F1B", 2, 4)
    tokens, targets = batch_of(4)
    attempts = [
        lambda: Pipeline(model, make_schedule("1F1B", 3, 4), batch_size=4, seq_len=SEQ_LEN),
        lambda: Pipeline(model, plain, batch_size=6, seq_len=SEQ_LEN),
        lambda: Pipeline(model, make_schedule("interleaved 1F1B", 2, 4, 4), batch_size=4, seq_len=SEQ_LEN),
        lambda: Pipeline(model, plain, batch_size=4, seq_len=SEQ_LEN + rank),
        lambda: Pipeline(mixed, plain, batch_size=4, seq_len=SEQ_LEN),
        lambda: Pipeline(halved, plain, batch_size=4, seq_len=SEQ_LEN),
        lambda: Pipeline(model, plain, batch_size=4, seq_len=SEQ_LEN).step(tokens[:3], targets),
    ]
    said = []
    for attempt in attempts:
        try:
            attempt()
            said.append("accepted")
        except UsageError as error:
            said.append(str(error))
    return said


def test_what_is_refused() -> None:
    ranks = run(refused, ranks=2, backend="gloo").values
    wanted = [
        "got 2 ranks for 3 stages. Make the schedule for 2 stages",
        "The micro-batches must divide the batch; got 4 for 6 sequences. Use a batch of 8.",
        "stages × chunks must divide num_layers; got 8 and 12. Use 1, 2, 3, 4, 6 or 12.",
        "all ranks must give the same seq_len; rank 0 gave 8 and rank 1 9",
        "all ranks must give the same dtype; rank 0 gave 'torch.float32' and rank 1 'torch.float64'",
        "Stages hand on tensors of one dtype; got weights of torch.bfloat16 and torch.float32. Use model.to(dtype)",
        "tokens must be (4, 8); got (3, 8)",
    ]
    for rank in ranks:
        for message, word in zip(rank, wanted, strict=True):
            assert word in message


def dies() -> None:
    """On a rank: the last stage is killed at its second forward, while the others wait for it."""
    calls: list[int] = []

    def loss_fn(logits: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return next_token_loss(logits, targets)

    tokens, targets = batch_of(6)
    model, schedule = small_model(tied=True), make_schedule("1F1B", 3, 6)
    Pipeline(model, schedule, batch_size=6, seq_len=SEQ_LEN, loss_fn=loss_fn).step(tokens, targets)


def test_a_rank_that_dies_in_mid_schedule_is_named_and_ends_the_others() -> None:
    started = time.monotonic()
    with pytest.raises(LaunchError, match="rank 2 of 3 was killed by SIGKILL"):
        run(dies, ranks=3, backend="gloo", deadline_s=90)
    assert time.monotonic() - started < 80  # by the broken connection, not by the deadline


class _Broken:
    def wait(self) -> None:
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1")


def test_a_stage_whose_neighbour_is_lost_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "irecv", lambda *args, **kwargs: _Broken())
    mail = Mail(make_schedule("1F1B", 3, 6), 1, torch.empty(1), None)
    with pytest.raises(
        LaunchError, match="Stage 1 lost a neighbour at B0 of 1F1B: a rank of the pipeline has died"
    ) as it:
        mail.take(Action(kind="B", microbatch=0))
    assert isinstance(it.value.__cause__, RuntimeError)  # so launch.run knows a consequence from the cause


def test_a_parts_layers() -> None:
    assert [part_layers(12, 4, part) for part in range(4)] == [range(0, 3), range(3, 6), range(6, 9), range(9, 12)]
    with pytest.raises(UsageError, match=r"must divide num_layers; got 5 and 12\. Use 1, 2, 3, 4, 6 or 12\."):
        part_layers(12, 5, 0)
    with pytest.raises(UsageError, match="part must lie in 0 to 1; got 2"):
        part_layers(12, 2, 2)
