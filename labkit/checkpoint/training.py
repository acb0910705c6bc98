"""A small real training job that can be killed: a transformer, AdamW, FSDP2 over its ranks, resumed where it was.

Its data follow from the seed and the step, so what it computes depends on nothing but where it resumes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

from labkit.checkpoint.folders import REAL_FOLDERS, FolderSystem
from labkit.checkpoint.states import agree, fingerprint, load, pull_state, push_state, save
from labkit.checkpoint.store import Store
from labkit.checkpoint.validation import Checkpoint
from labkit.models import Transformer, TransformerConfig

__all__ = ["TINY", "Event", "Job", "build", "digest", "loss_of", "resume", "train"]

TINY = TransformerConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    tie_word_embeddings=False,
)
Event = Callable[
    [str, int, Any], None
]  # what happened ("resumed", "loss", "state", "saving", "saved"), the step, a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """steps in all, a checkpoint after every ``every`` of them; batch_size: sequences of all ranks together."""

    folder: Path
    steps: int = 12
    every: int = 2
    keep: int = 2
    seed: int = 0
    batch_size: int = 4
    seq_len: int = 16
    config: TransformerConfig = field(default=TINY)


def build(job: Job) -> tuple[Transformer, torch.optim.Optimizer]:
    """The same weights on every world size; sharded over the ranks where there are several."""
    from torch.distributed.fsdp import fully_shard  # here: its module cannot be pickled with a function that names it

    torch.manual_seed(job.seed)
    model = Transformer(job.config)
    if dist.is_initialized() and dist.get_world_size() > 1:
        for block in model.layers:
            fully_shard(block)
        fully_shard(model)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def loss_of(job: Job, model: Transformer, step: int) -> torch.Tensor:
    """This rank's part of the step's batch, which any number of ranks that divides it shares: (batch ÷ ranks, T)."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    numbers = torch.Generator().manual_seed(job.seed * 1_000_003 + step)
    tokens = torch.randint(job.config.vocab_size, (job.batch_size, job.seq_len + 1), generator=numbers)
    tokens[:, 1::2] = (tokens[:, 0::2] * 7 + 3)[:, : tokens[:, 1::2].shape[1]] % job.config.vocab_size  # to be learned
    mine = tokens.chunk(world)[rank]
    logits = model(mine[:, :-1])  # (b, T) -> (b, T, vocab_size)
    return F.cross_entropy(logits.flatten(0, 1), mine[:, 1:].flatten())


def resume(
    store: Store, model: Transformer, optimizer: torch.optim.Optimizer, *, step: int | None = None
) -> Checkpoint | None:
    """Load the newest whole checkpoint, or that of ``step``; None where there is none, and nothing is changed."""
    found = agree(lambda: store.latest() if step is None else store.load(step), None)
    if found is not None:
        state = pull_state(model, optimizer, 0)
        load(found, state)
        push_state(model, optimizer, state)
    return found


def train(job: Job, *, fs: FolderSystem = REAL_FOLDERS, on_event: Event = lambda *_: None) -> dict[int, float]:
    """From the newest whole checkpoint to the end; the loss of each step taken, all ranks' mean. A collective call."""
    model, optimizer = build(job)
    store = Store(job.folder, model=fingerprint(model), keep=job.keep, fs=fs)
    found = resume(store, model, optimizer)
    parent, start = (found.id, found.step) if found else (None, 0)
    on_event("resumed", start, digest(model))
    losses = {}
    for step in range(start + 1, job.steps + 1):
        optimizer.zero_grad()
        loss = loss_of(job, model, step)
        torch.autograd.backward(loss)
        optimizer.step()
        losses[step] = _mean(loss.detach())
        on_event("loss", step, losses[step])
        on_event("state", step, digest(model))
        if step % job.every == 0:
            on_event("saving", step, None)
            parent = save(store, step, pull_state(model, optimizer, step), parent=parent).id
            on_event("saved", step, parent)
    return losses


def digest(model: Transformer) -> str:
    """A hash of this rank's shards, to the bit."""
    hashed = hashlib.sha256()
    for parameter in model.parameters():
        local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        hashed.update(local.detach().contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]


def _mean(loss: torch.Tensor) -> float:
    if dist.is_initialized():
        dist.all_reduce(loss)
        loss /= dist.get_world_size()
    return float(loss)
