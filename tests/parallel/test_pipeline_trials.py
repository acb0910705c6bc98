"""Trials of pipelines: every round of every schedule, the bytes of both ways of splitting, and what is refused."""

from __future__ import annotations

import pytest

from labkit.errors import UsageError
from labkit.models import TransformerConfig
from labkit.parallel.activations import activation_bytes
from labkit.parallel.cost import ring_all_reduce_bytes
from labkit.parallel.links import Link
from labkit.parallel.pipeline_trials import measure_links, measure_schedules
from labkit.parallel.schedule_timeline import held_activations
from labkit.parallel.schedules import gpipe, interleaved_1f1b, one_f_one_b
from labkit.parallel.shape import ModelShape

SMALL = TransformerConfig(
    vocab_size=64, hidden_size=48, intermediate_size=64, num_hidden_layers=4, tie_word_embeddings=False
)
SEQ_LEN = 8
LETTER = SEQ_LEN * 48 * 4  # bytes of one sequence's activation at a boundary


def test_schedules_in_turns() -> None:
    planned = [one_f_one_b(2, 1), gpipe(2, 4), interleaved_1f1b(2, 4, 2)]
    trials = measure_schedules(SMALL, planned, seq_len=SEQ_LEN, rounds=2)
    one = trials[0].peak_activation_bytes[0]
    sizes = {"tokens": SEQ_LEN, "seq_len": SEQ_LEN, "compute_bytes": 4, "fused_norm": False}
    layer = activation_bytes(ModelShape.of(SMALL), **sizes).kept
    assert one == pytest.approx(2 * layer, rel=0.02)  # and the tokens and the rotary tables
    for trial, schedule in zip(trials, planned, strict=True):
        assert trial.schedule == schedule
        assert len(trial.timelines) == len(trial.bubbles) == len(trial.step_s) == 2
        for timeline in trial.timelines:
            assert [[span.name for span in timeline.of(lane)] for lane in ("stage 0", "stage 1")] == [
                [str(action) for action in row] for row in schedule.actions
            ]
        assert all(idle > 0 for idle in trial.bubbles)
        boundaries = schedule.num_parts - 1
        assert sum(trial.sent_bytes) == 2 * schedule.num_microbatches * boundaries * LETTER
        held = held_activations(schedule)[0] / schedule.num_chunks
        assert trial.peak_activation_bytes[0] == pytest.approx(held * one, rel=0.15)


def test_the_same_batch_over_links() -> None:
    m = 2
    trials = measure_links(SMALL, one_f_one_b(2, m), [None, Link("slow", 2e6)], seq_len=SEQ_LEN, rounds=2)
    assert [(t.split, t.link.name if t.link else None) for t in trials] == [
        ("pipeline", None), ("tensor", None), ("pipeline", "slow"), ("tensor", "slow"),
    ]  # fmt: skip
    for trial in trials:
        assert len(trial.step_s) == 2
        if trial.split == "pipeline":
            assert trial.sent_bytes == m * LETTER
        else:  # two all-reduces a layer, forward and backward
            assert trial.sent_bytes == m * 4 * SMALL.num_hidden_layers * ring_all_reduce_bytes(LETTER, 2)
    slow = trials[3]
    assert slow.link is not None
    assert min(slow.step_s) >= slow.sent_bytes / slow.link.bandwidth_bytes_per_s  # no faster than the link allows


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match=r"need the same stages, and a round; got \[2, 3\] and 5 rounds"):
        measure_schedules(SMALL, [gpipe(2, 4), gpipe(3, 4)])
    with pytest.raises(UsageError, match="got 0 and 5"):
        measure_links(SMALL, gpipe(2, 4), [])
