"""What the engine did: every step with who sat in which slot, and every answer with the times of its tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labkit.measure import Span, Timeline

__all__ = ["Answer", "EngineRun", "Seat", "Step"]


@dataclass(frozen=True, slots=True)
class Seat:
    """One sequence in one step: its slot, and how many tokens were computed for it (1 in decode)."""

    slot: int
    request: int
    num_tokens: int
    is_prefill: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One pass through the model."""

    start_s: float
    end_s: float
    seats: tuple[Seat, ...]
    blocks_held: int
    num_waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """token_times_s: when each token came, on the run's clock, as arrival_s."""

    request: int
    tokens: tuple[int, ...]
    arrival_s: float
    token_times_s: tuple[float, ...]
    num_preemptions: int

    @property
    def ttft_s(self) -> float:
        """Time to the first token, waiting included."""
        return self.token_times_s[0] - self.arrival_s

    @property
    def total_s(self) -> float:
        return self.token_times_s[-1] - self.arrival_s


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRun:
    """answers: in the order of the requests. steps: empty where events were not recorded. Times: from the start."""

    policy: str
    max_num_seqs: int
    answers: tuple[Answer, ...]
    steps: tuple[Step, ...]
    num_steps: int
    duration_s: float

    @property
    def num_tokens(self) -> int:
        """Generated tokens, all requests together."""
        return sum(len(answer.tokens) for answer in self.answers)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.duration_s

    @property
    def occupancy(self) -> float:
        """Mean share of the slots in which a sequence computed, over the steps, 0 to 1."""
        return float(np.mean([len(step.seats) for step in self.steps])) / self.max_num_seqs

    def decode_steps(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Batch size and seconds of every step that only decoded."""
        decodes, prompt_tokens, seconds = self.step_shapes()
        return decodes[prompt_tokens == 0], seconds[prompt_tokens == 0]

    def step_shapes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Of every step: sequences that decoded, prompt tokens that were read, seconds."""
        decodes = [sum(not seat.is_prefill for seat in step.seats) for step in self.steps]
        prompts = [sum(seat.num_tokens for seat in step.seats if seat.is_prefill) for step in self.steps]
        return np.array(decodes), np.array(prompts), np.array([s.end_s - s.start_s for s in self.steps])

    def timeline(self, *, by_step: bool = False, title: str = "") -> Timeline:
        """Who sat in which slot: one lane a slot, one span a request's stay in prefill or decode.

        by_step: the axis counts model steps instead of seconds, so that policies can be laid side by side.
        """
        spans: list[Span] = []
        open_spans: dict[int, tuple[int, bool, float, float]] = {}  # slot -> request, prefill, start, end

        def close(slot: int) -> None:
            request, prefill, start, end = open_spans.pop(slot)
            kind = "prefill" if prefill else "decode"
            args = {"request": request}
            spans.append(
                Span(lane=f"slot {slot}", name=f"r{request}", start_s=start, end_s=end, category=kind, args=args)
            )

        for number, step in enumerate(self.steps):
            start, end = (float(number), float(number + 1)) if by_step else (step.start_s, step.end_s)
            for slot in set(open_spans) - {seat.slot for seat in step.seats}:
                close(slot)
            for seat in step.seats:
                if seat.slot in open_spans and open_spans[seat.slot][:2] == (seat.request, seat.is_prefill):
                    open_spans[seat.slot] = (*open_spans[seat.slot][:3], end)
                    continue
                if seat.slot in open_spans:
                    close(seat.slot)
                open_spans[seat.slot] = (seat.request, seat.is_prefill, start, end)
        for slot in list(open_spans):
            close(slot)
        spans.sort(key=lambda span: (int(span.lane.split()[1]), span.start_s))  # lanes stand in the order of the slots
        return Timeline(spans=tuple(spans), title=title)
