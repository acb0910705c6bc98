"""Training states over ranks: resumed to the bit, resharded, written in the background, branched and rolled back."""

from __future__ import annotations

import dataclasses
import errno
import math
from pathlib import Path

import pytest

from labkit import launch
from labkit.checkpoint.folders import RealFolderSystem
from labkit.checkpoint.lineage import branch, lineage, note_lineage
from labkit.checkpoint.training import TINY, Job
from labkit.errors import DataError, NoSpaceError, UsageError
from labkit.records import Records


def on_two(folder: str) -> dict[str, object]:
    """One launch, several questions: what a rank of two says."""
    import torch.distributed as dist

    from labkit.checkpoint.background import AsyncSaver
    from labkit.checkpoint.states import fingerprint, pull_state
    from labkit.checkpoint.store import Store
    from labkit.checkpoint.training import build, loss_of, train
    from labkit.errors import ConflictError

    whole = train(Job(folder=Path(folder) / "whole", steps=8, every=100))
    first = train(Job(folder=Path(folder) / "parts", steps=4))
    rest = train(Job(folder=Path(folder) / "parts", steps=8))
    job = Job(folder=Path(folder) / "async")
    model, optimizer = build(job)
    store = Store(job.folder, model=fingerprint(model))
    with AsyncSaver(store) as saver:
        for step in (1, 2, 3):
            loss_of(job, model, step).backward()
            optimizer.step()
            saver.save(step, pull_state(model, optimizer, step))
            optimizer.zero_grad()
    refused = False
    try:
        with AsyncSaver(store) as saver:
            saver.save(3, pull_state(model, optimizer, 3))
    except ConflictError:
        refused = True
    dist.barrier()
    return {"whole": whole, "parts": first | rest, "rest": list(rest), "async": store.steps(), "refused": refused}


def test_two_ranks(tmp_path: Path) -> None:
    from labkit.checkpoint.training import train

    told = launch.run(on_two, str(tmp_path), ranks=2).values
    for rank in told:
        assert rank["parts"] == rank["whole"]  # bit for bit
        assert rank["rest"] == [5, 6, 7, 8]
        assert rank["async"] == [1, 2, 3]
        assert rank["refused"]
    # On one rank now: the two ranks' shards, resharded; the sums come in another order.
    alone = train(Job(folder=tmp_path / "parts", steps=10))
    assert list(alone) == [9, 10]
    uninterrupted = train(Job(folder=tmp_path / "alone", steps=10, every=100))
    assert all(math.isclose(alone[step], uninterrupted[step], rel_tol=1e-3) for step in alone)


def test_one_rank(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from labkit.checkpoint.background import AsyncSaver
    from labkit.checkpoint.states import fingerprint, load, pull_state
    from labkit.checkpoint.store import Store
    from labkit.checkpoint.training import build, resume, train

    job = Job(folder=tmp_path / "parts", steps=4)
    whole = train(Job(folder=tmp_path / "whole", steps=8, every=100))
    parts = train(job)
    model, optimizer = build(job)
    store = Store(job.folder, model=fingerprint(model), keep=2)

    other = branch(store, tmp_path / "branch", 2)
    branched = train(Job(folder=tmp_path / "branch", steps=8))
    assert parts | branched == whole
    newest = other.latest()
    assert newest is not None
    line = lineage(newest, other, store)
    assert [m.step for m in line] == [8, 6]  # retention has removed the branch's own 2 and 4
    with Records(tmp_path / "records.sqlite") as records, records.start_run("r", code={}) as run:
        rows = note_lineage(run, newest, other, store)
    assert [row["step"] for row in rows] == [8, 6]

    with pytest.raises(UsageError, match="holds checkpoints already"):
        branch(store, tmp_path / "branch", 2)
    assert store.rollback(2) == [4]
    found = resume(store, model, optimizer)
    assert found is not None
    assert found.step == 2
    assert train(dataclasses.replace(job, steps=8)) | parts == whole
    with pytest.raises(DataError, match="no checkpoint of step 99"):
        resume(store, model, optimizer, step=99)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "refused")

    fs = RealFolderSystem()
    store.fs = fs
    with AsyncSaver(store) as saver:
        saver.save(20, pull_state(model, optimizer, 20))
        saver.wait()
        fs.sync = full  # type: ignore[method-assign]
        saver.save(30, pull_state(model, optimizer, 30))
        with pytest.raises(NoSpaceError, match="those published before are whole"):
            saver.wait()
        del fs.sync
        saver.save(40, pull_state(model, optimizer, 40))
    assert store.steps()[-2:] == [20, 40]

    source = store.load(20)
    for name in source.manifest.files:
        source.path(name).write_bytes(b"no longer a checkpoint")
    with pytest.raises(DataError, match="cannot be loaded"):
        load(source, pull_state(model, optimizer, 0))
    assert "root" not in {record.name for record in caplog.records}  # where DCP logs tracebacks besides

    wider = dataclasses.replace(job, config=dataclasses.replace(TINY, hidden_size=64))
    with pytest.raises(UsageError, match="belongs to the model"):
        train(wider)
