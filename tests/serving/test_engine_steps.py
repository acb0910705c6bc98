"""The engine's scheduling, without a model: steps by policy, blocks, preemption, bad input."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.serving.engine import BlockPool, EngineRun, ModelledRunner, run_engine
from labkit.serving.requests import Request

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30), st.integers(0, 60)), min_size=1, max_size=24)


def served(
    policy: str, shapes: Seq[tuple[int, int, int]], *, max_num_seqs: int = 4, num_blocks: int = 400
) -> EngineRun:
    """Requests of (prompt tokens, output tokens, arrival in steps) on a clock whose every step takes 1 s."""
    runner = ModelledRunner(lambda num_decodes, num_prompt_tokens: 1.0, num_blocks=num_blocks, block_size=4)
    requests = [Request(prompt=(1,) * p, max_tokens=n, arrival_s=at) for p, n, at in shapes]
    return run_engine(
        runner, requests, policy=policy, max_num_seqs=max_num_seqs, clock=runner.clock, sleep=runner.sleep
    )


@given(LENGTHS, st.integers(1, 6))
def test_continuous_takes_no_more_steps_than_static_and_static_no_more_than_naive(
    shapes: list[tuple[int, int, int]], max_num_seqs: int
) -> None:
    steps = {
        name: served(name, shapes, max_num_seqs=max_num_seqs).num_steps for name in ("naive", "static", "continuous")
    }
    assert steps["continuous"] <= steps["static"] <= steps["naive"]
    assert steps["naive"] == sum(tokens for _, tokens, _ in shapes)


@given(st.integers(1, 20), st.integers(1, 12), st.integers(1, 6))
def test_equal_lengths_make_continuous_and_static_equal(num: int, tokens: int, max_num_seqs: int) -> None:
    shapes = [(3, tokens, 0)] * num
    static, continuous = (served(name, shapes, max_num_seqs=max_num_seqs) for name in ("static", "continuous"))
    assert continuous.num_steps == static.num_steps == tokens * -(-num // max_num_seqs)


@settings(max_examples=60)
@given(LENGTHS, st.sampled_from(["naive", "static", "continuous"]), st.integers(18, 60))
def test_blocks_never_exceed_the_cache_and_all_return_even_when_it_overflows(
    shapes: list[tuple[int, int, int]], policy: str, num_blocks: int
) -> None:
    run = served(policy, shapes, max_num_seqs=8, num_blocks=num_blocks)  # the engine itself asserts that all return
    assert max(step.blocks_held for step in run.steps) <= num_blocks
    assert [len(answer.tokens) for answer in run.answers] == [tokens for _, tokens, _ in shapes]
    for step in run.steps:
        assert len({seat.slot for seat in step.seats}) == len(step.seats) <= 8


def test_a_small_cache_preempts_the_youngest_which_is_then_computed_again() -> None:
    run = served("continuous", [(8, 20, 0), (8, 20, 0)], num_blocks=10)
    assert [answer.num_preemptions for answer in run.answers] == [0, 1]
    again = [seat for step in run.steps for seat in step.seats if seat.request == 1 and seat.num_tokens > 1]
    assert again[0].num_tokens == 8
    assert again[1].num_tokens > 8
    assert again[1].is_prefill


def test_first_come_first_served_also_when_the_trace_is_not_in_order() -> None:
    run = served("continuous", [(2, 3, 5), (2, 3, 0), (2, 3, 2)], max_num_seqs=1)
    first = [answer.token_times_s[0] for answer in run.answers]
    assert first[1] < first[2] < first[0]
    assert all(answer.ttft_s >= 1 for answer in run.answers)


def test_an_idle_engine_waits_for_the_next_arrival_without_a_step() -> None:
    run = served("continuous", [(2, 2, 0), (2, 2, 50)])
    assert run.num_steps == 4
    assert run.duration_s == 52


def test_the_timeline_has_one_span_a_stay_and_no_slot_holds_two() -> None:
    run = served("static", [(2, 3, 0), (2, 6, 0), (2, 4, 0)], max_num_seqs=2)
    timeline = run.timeline(by_step=True)
    assert timeline.lanes == ("slot 0", "slot 1")
    assert [(s.name, s.category, s.start_s, s.end_s) for s in timeline.of("slot 0")] == [
        ("r0", "prefill", 0, 1), ("r0", "decode", 1, 3), ("r2", "prefill", 6, 7), ("r2", "decode", 7, 10),
    ]  # fmt: skip
    assert run.occupancy == pytest.approx((3 + 6 + 4) / (10 * 2))


def test_recording_can_be_left_out() -> None:
    runner = ModelledRunner(lambda d, p: 1.0, num_blocks=9)
    run = run_engine(runner, [Request(prompt=(1,), max_tokens=2)], record=False, clock=runner.clock)
    assert run.steps == ()
    assert run.num_steps == 2


def test_a_policy_may_be_a_function_of_ones_own() -> None:
    def two(num_running: int, num_waiting: int, max_num_seqs: int) -> int:
        return min(num_waiting, 2 - num_running)

    runner = ModelledRunner(lambda d, p: 1.0, num_blocks=99)
    run = run_engine(runner, [Request(prompt=(1,), max_tokens=4)] * 4, policy=two, clock=runner.clock)
    assert run.policy == "two"
    assert run.num_steps == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be at least 1; got 0"),
        ({"policy": "dynamic"}, "policy must be one of naive, static, continuous"),
        ({"requests": []}, "at least one request"),
        ({"requests": [Request(prompt=(1,) * 200, max_tokens=1)]}, "Request 0 is longer than the cache: 200 prompt"),
        ({"max_num_batched_tokens": 8}, "max_num_batched_tokens is 8"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    runner = ModelledRunner(lambda d, p: 1.0, num_blocks=12)
    options: dict[str, object] = {"requests": [Request(prompt=(1,) * 9, max_tokens=3)], **change}
    with pytest.raises(UsageError, match=message):
        run_engine(runner, options.pop("requests"), clock=runner.clock, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Request(prompt=(), max_tokens=1), "at least one token"),
        (lambda: Request(prompt=(1,), max_tokens=0), "max_tokens must be at least 1"),
        (lambda: Request(prompt=(1,), max_tokens=1, arrival_s=-1.0), "arrival_s"),
        (lambda: Request(prompt=(1,), max_tokens=1, temperature=float("nan")), "temperature"),
        (lambda: BlockPool(0), "at least one block"),
    ],
)
def test_bad_requests_and_caches(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]
