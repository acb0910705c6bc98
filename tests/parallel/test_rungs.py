"""Four rungs on two real ranks: the same loss, the bytes of the formulas; and the plans that stand for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labkit.errors import UsageError
from labkit.launch import run
from labkit.models import TransformerConfig
from labkit.parallel.cost import ring_all_reduce_bytes
from labkit.parallel.links import Link
from labkit.parallel.rungs import RUNGS, RungTimes, time_rungs
from labkit.parallel.shape import ModelShape
from labkit.parallel.splits import Job
from labkit.parallel.this_machine import measured_node, rung_plan

LAYERS, BATCH, SEQ_LEN = 2, 4, 16
CONFIG = TransformerConfig(
    vocab_size=64, hidden_size=48, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4,
    num_key_value_heads=4, tie_word_embeddings=False,
)  # fmt: skip
JOB = Job(shape=ModelShape.of(CONFIG), batch_size=BATCH, seq_len=SEQ_LEN, precision="fp32")
LINK = Link("a slow link", 20e6, 1e-4)


@pytest.fixture(scope="module")
def timed() -> RungTimes:
    out = run(time_rungs, CONFIG, BATCH, SEQ_LEN, num_microbatches=2, link=LINK, rounds=2, ranks=2, backend="gloo")
    value = out.values[0]
    assert isinstance(value, RungTimes)
    return value


def test_every_rung_starts_at_the_same_loss(timed: RungTimes) -> None:
    losses = [timed.losses[rung] for rung in RUNGS]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)


def test_what_is_sent_is_what_the_plans_say(timed: RungTimes) -> None:
    params = JOB.shape.num_params
    assert timed.sent_bytes["data"] == pytest.approx(ring_all_reduce_bytes(4 * params, 2), rel=0.01)
    hidden = BATCH * SEQ_LEN * CONFIG.hidden_size * 4
    assert timed.sent_bytes["tensor"] == pytest.approx(LAYERS * 4 * ring_all_reduce_bytes(hidden, 2), rel=0.02)
    assert timed.sent_bytes["pipeline"] == pytest.approx(hidden, rel=0.6)  # rank 0 sends it on, and gets as much back
    node = measured_node(JOB, LINK, ranks=2, alone_s=0.01, memory_bytes=8e9)
    said = {rung: rung_plan(rung, JOB, node, 2).sent_bytes for rung in RUNGS}
    assert said["data"]["data"] == pytest.approx(timed.sent_bytes["data"], rel=0.02)
    assert said["tensor"]["tensor"] == pytest.approx(timed.sent_bytes["tensor"], rel=0.02)


def test_calls_and_rounds_are_counted(timed: RungTimes) -> None:
    assert {len(timed.seconds[rung]) for rung in RUNGS} == {len(timed.alone_s)} == {2}
    assert min(min(seconds) for seconds in timed.seconds.values()) > 0
    assert timed.calls["tensor"] >= 4 * LAYERS
    assert timed.calls["sharded"] > timed.calls["data"]
    # The slow link shows: replicas send more than it carries in the time of a step that talks to nobody.
    assert np.median(timed.seconds["data"]) > ring_all_reduce_bytes(4 * JOB.shape.num_params, 2) / 20e6 / 2


def test_a_measured_node_gives_back_the_measured_time() -> None:
    node = measured_node(JOB, Link("free", 1e15), ranks=2, alone_s=0.25, memory_bytes=8e9)
    plan = rung_plan("data", JOB, node, 2)
    assert plan.step_time_s == pytest.approx(0.25, rel=1e-6)
    assert plan.parts_s["compute"] == pytest.approx(0.25)
    stages = rung_plan("pipeline", JOB, node, 4).parts_s
    assert stages["bubble"] / stages["compute"] == pytest.approx(1 / 4)  # the last stage, with the head, sets the pace
    slow = replace(node, inside=Link("slow", 1e6), across=Link("slow", 1e6))
    assert rung_plan("tensor", JOB, slow, 2).limit == "tensor parallelism's all-reduces"


def test_what_cannot_be_planned_or_timed() -> None:
    node = measured_node(JOB, LINK, ranks=2, alone_s=0.01, memory_bytes=8e9)
    with pytest.raises(UsageError, match=r"must be one of data, sharded, tensor, pipeline; got 'magic'"):
        rung_plan("magic", JOB, node, 2)
    with pytest.raises(UsageError, match="ranks must divide the batch; got 3 and 4"):
        measured_node(JOB, LINK, ranks=3, alone_s=0.01, memory_bytes=8e9)
    with pytest.raises(UsageError, match="alone_s must be finite"):
        measured_node(JOB, LINK, ranks=2, alone_s=0.0, memory_bytes=8e9)
    with pytest.raises(UsageError, match="rungs must be of data"):
        time_rungs(CONFIG, BATCH, SEQ_LEN, num_microbatches=2, rungs=("magic",))
