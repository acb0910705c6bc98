"""Can a schedule run? What each action waits for, one order that allows it, and the check that none waits for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from labkit.errors import UsageError
from labkit.parallel.schedules import Action, Schedule

__all__ = ["Piece", "check_schedule", "needs", "run_order"]

Piece = tuple[str, int, int]  # kind, part, micro-batch: an action by where it stands in the model


def needs(schedule: Schedule, stage: int, action: Action) -> tuple[Piece, ...]:
    """What must be done before: F waits for the part before it; B for its own F and the part after it; W for its B."""
    part, j = schedule.part(stage, action.chunk), action.microbatch
    if action.kind == "F":
        return (("F", part - 1, j),) if part else ()
    if action.kind == "W":
        return (("B", part, j),)
    after = (("B", part + 1, j),) if part + 1 < schedule.num_parts else ()
    return (("F", part, j), *after)


def run_order(schedule: Schedule) -> Iterator[tuple[int, Action]]:
    """All actions in one order that their needs allow, as (stage, action). UsageError where every stage waits."""
    done: set[Piece] = set()
    at = [0] * schedule.num_stages
    moved = True
    while moved:
        moved = False
        for stage, row in enumerate(schedule.actions):
            while at[stage] < len(row) and done.issuperset(needs(schedule, stage, row[at[stage]])):
                action = row[at[stage]]
                yield stage, action
                done.add((action.kind, schedule.part(stage, action.chunk), action.microbatch))
                at[stage] += 1
                moved = True
    stuck = [(stage, row[at[stage]]) for stage, row in enumerate(schedule.actions) if at[stage] < len(row)]
    if stuck:
        stage, action = stuck[0]
        kind, part, j = next(need for need in needs(schedule, stage, action) if need not in done)
        raise UsageError(
            f"{schedule.name} never ends: stage {stage} waits at {action} for {kind}{j} of stage "
            f"{schedule.stage_of(part)}, which does not come. Move {action} behind what it needs."
        )


def check_schedule(schedule: Schedule) -> None:
    """UsageError unless every stage does each of its actions once, in an order in which none waits for ever."""
    kinds = "FBW" if schedule.splits_backward else "FB"
    pieces = [(chunk, j) for chunk in range(schedule.num_chunks) for j in range(schedule.num_microbatches)]
    wanted = {Action(kind=kind, microbatch=j, chunk=chunk) for kind in kinds for chunk, j in pieces}
    for stage, row in enumerate(schedule.actions):
        times = Counter(row)
        wrong = [a for a in (*sorted(wanted, key=str), *times) if times[a] != (a in wanted)]
        if wrong:
            once = "once" if wrong[0] in wanted else "not at all"
            raise UsageError(
                f"Stage {stage} of {schedule.name} must do {wrong[0]} {once}; it does so {times[wrong[0]]} times."
            )
    for _ in run_order(schedule):
        pass
