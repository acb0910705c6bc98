"""Run a pipeline schedule for real: each rank is a stage, works off its row of actions and hands on what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.errors import UsageError
from labkit.measure import Timeline
from labkit.models import Transformer
from labkit.parallel.agreement import check_agreement
from labkit.parallel.pipeline_mail import Mail
from labkit.parallel.pipeline_parts import Part
from labkit.parallel.saved_activations import SavedActivations
from labkit.parallel.schedule_order import check_schedule
from labkit.parallel.schedule_timeline import stage_span
from labkit.parallel.schedules import Action, Schedule
from labkit.parallel.weights_later import WeightsLater

__all__ = ["Pipeline", "PipelineStep", "next_token_loss"]

POSTED_AHEAD = 3  # receives under way for so many actions to come: they travel while the stage computes


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy: (B, T, vocab_size), (B, T) -> ()."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStep:
    """What one stage saw of one step. loss: the batch's mean, on the last stage alone; timeline: its actions, on the
    machine's monotonic clock; peak_activation_bytes: what autograd kept at most, where that was counted."""

    loss: float | None
    timeline: Timeline
    peak_activation_bytes: int | None


@dataclass(slots=True)
class _Held:
    """A micro-batch on a part between its actions: x and out until its backward, later until its W."""

    x: Tensor
    out: Tensor
    later: WeightsLater


class Pipeline:
    """One rank's stage of ``model``, which all ranks of ``group`` build alike; the stage keeps its own parts of it.

    batch_size is divided into the schedule's micro-batches. After ``step`` the gradients lie in the parameters of
    ``parts`` as if one process had trained on the whole batch. gloo only: letters are told apart by tags.
    UsageError: sizes that do not divide, mixed dtypes, a schedule that cannot run, ranks that differ.
    """

    def __init__(
        self,
        model: Transformer,
        schedule: Schedule,
        *,
        batch_size: int,
        seq_len: int,
        group: dist.ProcessGroup | None = None,
        loss_fn: Callable[[Tensor, Tensor], Tensor] = next_token_loss,
    ) -> None:
        world_size, m = dist.get_world_size(group), schedule.num_microbatches
        if world_size != schedule.num_stages:
            raise UsageError(
                f"A pipeline needs a rank a stage; got {world_size} ranks for {schedule.num_stages} stages. "
                f"Make the schedule for {world_size} stages."
            )
        if batch_size < 1 or batch_size % m:
            raise UsageError(
                f"The micro-batches must divide the batch; got {m} for {batch_size} sequences. "
                f"Use a batch of {max(1, round(batch_size / m)) * m}."
            )
        if dist.get_backend(group) == "nccl":
            raise UsageError('This pipeline tells letters apart by tags, which nccl lacks. Launch with backend="gloo".')
        dtypes = sorted({str(parameter.dtype) for parameter in model.parameters()})
        if len(dtypes) > 1:
            raise UsageError(
                f"Stages hand on tensors of one dtype; got weights of {' and '.join(dtypes)}. "
                "Use model.to(dtype) first."
            )
        check_schedule(schedule)
        self.schedule, self.group, self.stage = schedule, group, dist.get_rank(group)
        self.batch_size, self.seq_len, self.loss_fn, self.config = batch_size, seq_len, loss_fn, model.config
        weight = model.embed_tokens.weight
        mine = {"schedule": schedule, "config": model.config, "batch_size": batch_size, "seq_len": seq_len}
        check_agreement({**mine, "dtype": dtypes[0]}, "The stages of a pipeline share one model", group)
        numbers = [schedule.part(self.stage, chunk) for chunk in range(schedule.num_chunks)]
        self.parts = nn.ModuleList(Part(model, schedule.num_parts, number) for number in numbers)
        self._like = torch.empty(batch_size // m, seq_len, model.config.hidden_size, dtype=weight.dtype)

    def step(self, tokens: Tensor, targets: Tensor, *, count_activations: bool = False) -> PipelineStep:
        """Forward and backward of a batch, (batch_size, seq_len) each: the first stage reads the tokens, the last the
        targets. The parameters' gradients are then this batch's, whatever they were. LaunchError: a neighbour is lost.
        """
        for name, given in (("tokens", tokens), ("targets", targets)):
            if given.shape != (self.batch_size, self.seq_len):
                raise UsageError(f"{name} must be {(self.batch_size, self.seq_len)}; got {tuple(given.shape)}.")
        self.parts.zero_grad(set_to_none=True)
        inputs, answers = (whole.chunk(self.schedule.num_microbatches) for whole in (tokens, targets))
        row, mail = self.schedule.actions[self.stage], Mail(self.schedule, self.stage, self._like, self.group)
        saved = SavedActivations(self.parts.parameters()) if count_activations else None
        held: dict[tuple[int, int], _Held] = {}
        spans, losses = [], []
        for index, action in enumerate(row):
            for coming in row[index : index + POSTED_AHEAD]:
                mail.post(coming)
            key, came, result = (action.chunk, action.microbatch), mail.take(action), None
            start = time.perf_counter()
            if action.kind == "F":
                x = inputs[action.microbatch] if came is None else came.requires_grad_()
                held[key] = self._forward(action, x, answers[action.microbatch], saved)
                result = held[key].out.detach()
                if not result.dim():  # the last part's loss
                    losses.append(float(result))
            elif action.kind == "B":
                result = _backward(held[key] if self.schedule.splits_backward else held.pop(key), came)
            else:
                held.pop(key).later.weights()
            spans.append(stage_span(self.stage, action, start, time.perf_counter()))
            if result is not None:
                mail.give(action, result)
        mail.close()
        self._sum_tied_gradients()
        return PipelineStep(
            loss=sum(losses) if losses else None,
            timeline=Timeline(spans=tuple(spans), title=self.schedule.name),
            peak_activation_bytes=saved.peak_bytes if saved else None,
        )

    @property
    def gradients(self) -> dict[str, Tensor]:
        """Of this stage's parameters, by the names that they have in the whole model."""
        named = (pair for part in self.parts for pair in part.named_parameters())
        return {name: parameter.grad for name, parameter in named if parameter.grad is not None}

    def _forward(self, action: Action, x: Tensor, answers: Tensor, saved: SavedActivations | None) -> _Held:
        with ExitStack() as watching:
            if saved:
                watching.enter_context(saved.watch())
            later = WeightsLater(saved.save) if saved else WeightsLater()
            if self.schedule.splits_backward:
                watching.enter_context(later)
            out = self.parts[action.chunk](x)
            if self.schedule.part(self.stage, action.chunk) == self.schedule.num_parts - 1:
                out = self.loss_fn(out, answers) / self.schedule.num_microbatches  # their sum is the batch's mean
        return _Held(x=x, out=out, later=later)

    def _sum_tied_gradients(self) -> None:
        """An embedding that is also the head lies on the first and on the last stage: both get the sum."""
        last = self.schedule.num_stages - 1
        if not self.config.tie_word_embeddings or not last or self.stage not in (0, last):
            return
        grads = self.gradients
        mine = grads["embed_tokens.weight" if self.stage == 0 else "lm_head.weight"]
        theirs, other = torch.empty_like(mine), last - self.stage
        for work in (
            dist.isend(mine, group=self.group, group_dst=other),
            dist.irecv(theirs, group=self.group, group_src=other),
        ):
            assert work is not None, "only a rank outside the group gets none"
            work.wait()
        mine.add_(theirs)


def _backward(held: _Held, grad: Tensor | None) -> Tensor | None:
    """The gradient of the part's input, None for tokens; what was kept for it is let go."""
    torch.autograd.backward(held.out, grad)
    found = held.x.grad
    held.x = held.out = torch.empty(0)
    return found
