"""The engine: requests in, answers out, one model step after another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Seq

from labkit.errors import UsageError
from labkit.measure import OnProgress
from labkit.serving.engine.blocks import BlockPool
from labkit.serving.engine.events import Answer, EngineRun, Seat, Step
from labkit.serving.engine.policies import POLICIES, Policy
from labkit.serving.engine.runner import Runner
from labkit.serving.engine.scheduler import Scheduler
from labkit.serving.engine.sequence import Sequence
from labkit.serving.requests import Request

__all__ = ["run_engine"]


def run_engine(
    runner: Runner,
    requests: Seq[Request],
    *,
    policy: str | Policy = "continuous",
    max_num_seqs: int = 32,
    max_num_batched_tokens: int = 8192,
    eos_token_id: int | None = None,
    record: bool = True,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    on_progress: OnProgress | None = None,
) -> EngineRun:
    """Serve the requests, each from its arrival_s on; the answers in the order of the requests.

    UsageError for an unknown policy, no requests, or one that the cache can never hold.
    """
    admit, name = _policy(policy)
    if not requests:
        raise UsageError("An engine needs at least one request; got none.")
    pool = BlockPool(runner.num_blocks, runner.block_size)
    scheduler = Scheduler(admit, pool, max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
    sequences = [Sequence.of(index, request) for index, request in enumerate(requests)]
    for sequence in sequences:
        scheduler.check(sequence)
    coming = deque(sorted(sequences, key=lambda s: s.request.arrival_s))
    steps: list[Step] = []
    num_steps = num_finished = 0
    started = clock()
    while num_finished < len(sequences):
        now = clock() - started
        while coming and coming[0].request.arrival_s <= now:
            scheduler.waiting.append(coming.popleft())
        batch = scheduler.schedule()
        if not batch:
            sleep(coming[0].request.arrival_s - now)  # nothing to do before the next one comes
            continue
        batch.sort(key=lambda s: s.num_new > 1)  # decodes first; sorting is stable
        num_decodes = sum(s.num_new == 1 for s in batch)
        seats = (
            tuple(Seat(s.slot, s.index, s.num_new, not s.token_times_s or s.num_new > 1) for s in batch)
            if record
            else ()
        )
        tokens = runner.step(batch, num_decodes)
        end = clock() - started
        if record:
            steps.append(
                Step(start_s=now, end_s=end, seats=seats, blocks_held=pool.num_held, num_waiting=len(scheduler.waiting))
            )
        num_steps += 1
        for sequence, token in zip(batch, tokens, strict=True):
            sequence.num_cached = len(sequence.tokens)
            sequence.tokens.append(token)
            sequence.token_times_s.append(end)
            if sequence.is_finished(eos_token_id):
                scheduler.retire(sequence)
                num_finished += 1
        if on_progress:
            on_progress(num_finished / len(sequences), f"{num_finished} of {len(sequences)} requests answered")
    assert not pool.num_held, "every block returns"
    return EngineRun(
        policy=name,
        max_num_seqs=max_num_seqs,
        answers=tuple(_answer(sequence) for sequence in sequences),
        steps=tuple(steps),
        num_steps=num_steps,
        duration_s=clock() - started,
    )


def _policy(policy: str | Policy) -> tuple[Policy, str]:
    if callable(policy):
        return policy, getattr(policy, "__name__", "policy")
    if policy not in POLICIES:
        raise UsageError(f"policy must be one of {', '.join(POLICIES)}, or a function; got {policy!r}.")
    return POLICIES[policy], policy


def _answer(sequence: Sequence) -> Answer:
    return Answer(
        request=sequence.index,
        tokens=sequence.output,
        arrival_s=sequence.request.arrival_s,
        token_times_s=tuple(sequence.token_times_s),
        num_preemptions=sequence.num_preemptions,
    )
