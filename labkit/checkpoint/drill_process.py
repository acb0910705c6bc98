"""The drill's own process, run by `drill.kill_drill`: it loads torch, runs no backward, and forks every attempt."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from labkit.checkpoint.attempts import Attempt, Kill, attempt
from labkit.checkpoint.drill import Drill
from labkit.checkpoint.folders import PRUNED, STAGED
from labkit.checkpoint.states import load, pull_state, save
from labkit.checkpoint.store import Store
from labkit.checkpoint.training import Job, build
from labkit.checkpoint.validation import damage

__all__ = ["drill", "main"]

RANKS = (1, 2)
OPERATIONS = 20  # of two saves, a little more than rank 0 makes: a kill falls anywhere in them
SAVES = 2
LAST_STEPS = 3  # after the last kill


def drill(folder: Path, kills: int, seed: int) -> Drill:
    """kills: shared out over one rank and two."""
    parts = []
    for index, ranks in enumerate(RANKS):
        share = kills // 2 + (kills % 2 if index == 0 else 0)
        if share:
            parts.append(_on(folder / f"ranks-{ranks}", ranks, share, seed))
    totals = {name: sum(getattr(p, name) for p in parts) for name in ("kills", "committed", "lost", "torn_restored")}
    where: Counter[str] = Counter()
    for part in parts:
        where.update(part.where)
    left, exact = sum(part.left_behind for part in parts), all(part.bit_exact for part in parts)
    return Drill(**totals, bit_exact=exact, left_behind=left, where=dict(where), seed=seed)


def _on(folder: Path, ranks: int, kills: int, seed: int) -> Drill:
    job = Job(folder=folder / "killed", steps=SAVES * kills + LAST_STEPS, every=1, seed=seed)
    reference = _reference(job, ranks, folder)
    rng, where, committed = random.Random(1000 * seed + ranks), Counter[str](), dict[int, str]()
    struck = lost = torn = left_behind = 0
    exact = True
    while struck < kills:
        # No further than two saves at a time, so that the job is not done before its kills are.
        told = _attempt(dataclasses.replace(job, steps=_reached(job) + SAVES), ranks, _when(rng), folder)
        if told.where is not None:
            struck += 1
            where[told.where] += 1
            with (folder.parent / "kills").open("ab") as file:
                file.write(b".")
        torn, exact = torn + _torn(told, reference, committed), exact and _same(told, reference)
        committed |= told.saved
        lost += _lost(job, committed)
        left_behind += sum(path.name.startswith((STAGED, PRUNED)) for path in job.folder.glob(".*"))
    last = _reached(job) + LAST_STEPS
    told = _attempt(dataclasses.replace(job, steps=last), ranks, None, folder)
    torn, exact = torn + _torn(told, reference, committed), exact and _same(told, reference) and last in told.losses
    committed |= told.saved
    return Drill(
        kills=struck, committed=len(committed), lost=lost + _lost(job, committed), torn_restored=torn, bit_exact=exact,
        left_behind=left_behind, where=dict(where), seed=seed,
    )  # fmt: skip


def _reference(job: Job, ranks: int, folder: Path) -> Attempt:
    """The uninterrupted run, which saves nothing."""
    alone = dataclasses.replace(job, folder=folder / "reference", every=job.steps + 1)
    return _attempt(alone, ranks, None, folder)


def _attempt(job: Job, ranks: int, kill: Kill | None, folder: Path) -> Attempt:
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return attempt(job, ranks, kill, scratch)


def _when(rng: random.Random) -> Kill:
    if rng.random() < 0.7:
        return Kill(operations=rng.randrange(OPERATIONS))
    return Kill(save=rng.randint(1, SAVES), delay_s=rng.uniform(0.0, 0.06))


def _torn(told: Attempt, reference: Attempt, committed: dict[int, str]) -> int:
    """1 where it resumed with another state than the reference had at that step, or behind what was committed."""
    if told.resumed is None:  # killed before it had resumed
        return 0
    step, digest = told.resumed
    if step < max(committed, default=0):
        return 1
    return int(step > 0 and digest != reference.digests[step])


def _same(told: Attempt, reference: Attempt) -> bool:
    return all(loss == reference.losses[step] for step, loss in told.losses.items())


def _lost(job: Job, committed: dict[int, str]) -> int:
    """Committed checkpoints among the newest that retention keeps, and not whole any more."""
    if not committed:
        return 0
    store, published = Store(job.folder, model=""), _published(job)
    kept = [step for step in sorted(committed)[-job.keep :] if step >= min(published[-job.keep :], default=0)]
    return sum(damage(store.folder(step)) is not None for step in kept)


def _published(job: Job) -> list[int]:
    # The folder is made by the job, which may be killed over it.
    return Store(job.folder, model="").steps() if job.folder.is_dir() else []


def _reached(job: Job) -> int:
    """Also where a kill fell between the publication and its news."""
    return max(_published(job), default=0)


def _load_once() -> None:
    """What torch imports only when it is first used takes seconds: here once, not in every fork."""
    import torch
    import torch.distributed.fsdp

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        store, state = Store(name, model=""), pull_state(*build(Job(folder=Path())), 0)
        load(save(store, 0, state), state)


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _load_once()
    done = drill(folder, kills, seed)
    (folder / "result.json").write_text(json.dumps(done.to_dict()))


if __name__ == "__main__":
    main()
