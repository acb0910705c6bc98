"""A real training job for the supervisor: a small transformer, checkpoints by `labkit.checkpoint`, resumed."""

from __future__ import annotations

import time
from typing import Any

from labkit.checkpoint.states import fingerprint, pull_state, save
from labkit.checkpoint.store import Store
from labkit.checkpoint.training import Job, build, loss_of, resume

__all__ = ["train"]


def train(worker: Any, job: Job, step_s: float = 0.0) -> float:
    """To the end, a checkpoint after every ``every`` steps, and one more at a notice; the last step's loss.

    step_s: the least that a step takes, so that a fast machine does not end the job before it is reclaimed.
    """
    model, optimizer = build(job)
    store = Store(job.folder, model=fingerprint(model), keep=2)
    found = resume(store, model, optimizer)
    start = kept = found.step if found else 0
    worker.ready(start)
    loss = loss_of(job, model, start)
    for step in range(start + 1, job.steps + 1):
        time.sleep(step_s)
        optimizer.zero_grad()
        loss = loss_of(job, model, step)
        loss.backward()
        optimizer.step()
        worker.did(step)
        if step % job.every == 0 or step == job.steps or (worker.noticed and step > kept):
            worker.saving(step)
            save(store, step, pull_state(model, optimizer, step))
            worker.saved(step)
            kept = step
            if worker.noticed:
                break
    return float(loss)
