"""Pipeline schedules as plain data: for each stage, who does what when. Nothing here computes, sends or waits.

A model is cut into parts of consecutive layers. With one chunk a stage, part = stage; with v chunks, stage s of p holds
the parts s, s + p, s + 2p, … (Narayanan et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labkit.errors import UsageError
from labkit.sizes import need_int

__all__ = [
    "SCHEDULES",
    "Action",
    "Schedule",
    "gpipe",
    "interleaved_1f1b",
    "make_schedule",
    "one_f_one_b",
    "zero_bubble_h1",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One stage's work on one micro-batch. kind: "F" forward, "B" backward, "W" the weights' gradients.

    Where a schedule has W, its B gives the gradient of the stage's input alone, which the stage before waits for.
    """

    kind: str
    microbatch: int
    chunk: int = 0

    def __str__(self) -> str:
        return f"{self.kind}{self.microbatch}" + (f".{self.chunk}" if self.chunk else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """actions: a row a stage, in the order in which it does them."""

    name: str
    num_microbatches: int
    num_chunks: int = 1
    actions: tuple[tuple[Action, ...], ...]

    @property
    def num_stages(self) -> int:
        return len(self.actions)

    @property
    def num_parts(self) -> int:
        return self.num_stages * self.num_chunks

    @property
    def splits_backward(self) -> bool:
        return any(action.kind == "W" for action in self.actions[0][-1:])  # nothing can come after the last W

    def part(self, stage: int, chunk: int) -> int:
        """Which part of the model a chunk of a stage is."""
        return chunk * self.num_stages + stage

    def stage_of(self, part: int) -> int:
        return part % self.num_stages


def gpipe(num_stages: int, num_microbatches: int) -> Schedule:
    """All forwards, then all backwards; every micro-batch is held at once. Source: Huang et al. (2019)."""
    need_int(num_stages=num_stages, num_microbatches=num_microbatches)
    row = [_forward(j) for j in range(num_microbatches)] + [_backward(j) for j in range(num_microbatches)]
    return Schedule(name="GPipe", num_microbatches=num_microbatches, actions=(tuple(row),) * num_stages)


def one_f_one_b(num_stages: int, num_microbatches: int) -> Schedule:
    """Warm up by as many forwards as stages follow, then one forward, one backward. Source: Narayanan et al. (2019).

    Stage s holds at most p - s micro-batches, however many there are.
    """
    need_int(num_stages=num_stages, num_microbatches=num_microbatches)
    rows = []
    for stage in range(num_stages):
        ahead = min(num_stages - stage - 1, num_microbatches)
        row = [_forward(j) for j in range(ahead)]
        for j in range(num_microbatches):
            row += [_forward(j + ahead)] if j + ahead < num_microbatches else []
            row += [_backward(j)]
        rows.append(tuple(row))
    return Schedule(name="1F1B", num_microbatches=num_microbatches, actions=tuple(rows))


def interleaved_1f1b(num_stages: int, num_microbatches: int, num_chunks: int = 2) -> Schedule:
    """1F1B over v chunks a stage: the bubble is 1/v as long, and v times as much is sent. Source: Narayanan (2021).

    UsageError unless the micro-batches come in whole rounds of num_stages: a stage works through a round on one chunk
    before it turns to the next.
    """
    need_int(num_stages=num_stages, num_microbatches=num_microbatches, num_chunks=num_chunks)
    if num_microbatches % num_stages:
        fits = -(-num_microbatches // num_stages) * num_stages
        raise UsageError(
            f"The interleaved schedule needs num_microbatches to be a multiple of num_stages; got {num_microbatches} "
            f"and {num_stages}. Use {fits}, or 1F1B."
        )
    total = num_microbatches * num_chunks

    def nth(k: int, *, backwards: bool) -> tuple[int, int]:
        """The k-th turn of a stage: which micro-batch on which chunk; rounds of p micro-batches, chunk after chunk."""
        turn, place = divmod(k, num_stages * num_chunks)
        chunk, j = divmod(place, num_stages)
        return turn * num_stages + j, num_chunks - 1 - chunk if backwards else chunk

    rows = []
    for stage in range(num_stages):
        ahead = min((num_stages - stage - 1) * 2 + (num_chunks - 1) * num_stages, total)
        row = [_forward(*nth(k, backwards=False)) for k in range(ahead)]
        for k in range(total):
            row += [_forward(*nth(k + ahead, backwards=False))] if k + ahead < total else []
            row += [_backward(*nth(k, backwards=True))]
        rows.append(tuple(row))
    return Schedule(
        name="interleaved 1F1B", num_microbatches=num_microbatches, num_chunks=num_chunks, actions=tuple(rows)
    )


def zero_bubble_h1(num_stages: int, num_microbatches: int) -> Schedule:
    """1F1B whose backward is cut in two: inputs at once, weights when there is time. Source: Qi et al. (2023), ZB-H1.

    Stage s puts the weights off by s micro-batches, so each stage holds at most p, as 1F1B's first stage does.
    """
    need_int(num_stages=num_stages, num_microbatches=num_microbatches)
    rows = []
    for stage, row in enumerate(one_f_one_b(num_stages, num_microbatches).actions):
        cut: list[Action] = []
        for action in row:
            cut.append(action)
            if action.kind == "B" and action.microbatch >= stage:
                cut.append(_weights(action.microbatch - stage))
        late = range(max(0, num_microbatches - stage), num_microbatches)
        rows.append((*cut, *(_weights(j) for j in late)))
    return Schedule(name="ZB-H1", num_microbatches=num_microbatches, actions=tuple(rows))


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "GPipe": gpipe,
    "1F1B": one_f_one_b,
    "interleaved 1F1B": interleaved_1f1b,
    "ZB-H1": zero_bubble_h1,
}


def make_schedule(name: str, num_stages: int, num_microbatches: int, num_chunks: int = 1) -> Schedule:
    """A schedule by its name in SCHEDULES; num_chunks above 1 is for the interleaved one alone."""
    if name not in SCHEDULES:
        raise UsageError(f"schedule must be one of {', '.join(SCHEDULES)}; got {name!r}.")
    need_int(num_chunks=num_chunks)
    if name == "interleaved 1F1B":
        return interleaved_1f1b(num_stages, num_microbatches, num_chunks)
    if num_chunks > 1:
        raise UsageError(f'{name} has one chunk a stage; got num_chunks = {num_chunks}. Use "interleaved 1F1B".')
    return SCHEDULES[name](num_stages, num_microbatches)


def _forward(microbatch: int, chunk: int = 0) -> Action:
    return Action(kind="F", microbatch=microbatch, chunk=chunk)


def _backward(microbatch: int, chunk: int = 0) -> Action:
    return Action(kind="B", microbatch=microbatch, chunk=chunk)


def _weights(microbatch: int) -> Action:
    return Action(kind="W", microbatch=microbatch)
