"""What is written is read back, with its types; what cannot be kept is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pandas
import pytest

from labkit.errors import NetworkHomeError, RecordsError, UsageError
from labkit.measure import Measured
from labkit.records import Claim, Prediction, Records, store
from labkit.records.code import fingerprint

FIGURE = Measured(name="t", value=2.0, unit="s", low=1.0, high=3.0, n=5, warmup=1, machine="m")


def test_what_was_written_is_read_back() -> None:
    ticks = iter(range(100, 200))
    with Records(clock=lambda: next(ticks)) as records:
        with records.start_run("00_test", config={"size": 4, "sizes": [1, 2]}) as run:
            run.log(FIGURE)
            run.note("why", {"because": 1})
        with pytest.raises(ZeroDivisionError), records.start_run("00_bad"):
            _ = 1 / 0
        records.start_run("00_open")
        runs = records.runs().set_index("name")
        figures = records.measurements()
    assert runs["status"].to_dict() == {"00_test": "ok", "00_bad": "failed", "00_open": "running"}
    assert runs.loc["00_test", "config"] == {"size": 4, "sizes": [1, 2]}
    assert runs.loc["00_test", "notes"] == {"why": {"because": 1}}
    assert {"commit", "python", "torch"} <= runs.loc["00_test", "code"].keys()
    assert runs.loc["00_test", "started_at"] == pandas.Timestamp(100, unit="s", tz="UTC")
    assert pandas.isna(runs.loc["00_open", "ended_at"])
    assert figures.loc[0, "data"] == FIGURE.to_dict()
    assert (figures.loc[0, "run"], figures.loc[0, "low"], figures.loc[0, "high"]) == ("00_test", 1.0, 3.0)


def test_empty_records_are_frames_of_the_right_shape() -> None:
    with Records() as records:
        empty = [records.runs(), records.measurements(), records.claims(), records.predictions()]
        assert [len(frame) for frame in empty] == [0] * 4
        with records.start_run("00_test") as run:
            run.log(FIGURE)
            run.fix(Claim(id="00-x", statement="s", rule="figure > 1", quantity="q"))
            run.predict(Prediction(id="p", question="?", unit="s", low=1, high=2))
        full = [records.runs(), records.measurements(), records.claims(), records.predictions()]
    for before, after in zip(empty, full, strict=True):
        assert len(after) == 1
        assert before.dtypes.to_dict() == after.dtypes.to_dict()
    assert str(empty[0]["started_at"].dtype).endswith("UTC]")
    assert str(empty[3]["hit"].dtype) == "boolean"


def test_numbers_of_numpy_and_paths_are_plain_data() -> None:
    rows = [np.float32(0.5), np.int64(3), np.bool_(True)]
    single = Measured(name="t", value=np.float32(2), unit="s", low=np.float32(2), high=np.float32(2), n=1)
    with Records() as records, records.start_run("x", config={"rows": rows, "at": Path("a") / "b"}) as run:
        run.log(single)
        assert records.runs()["config"][0] == {"rows": [0.5, 3, True], "at": str(Path("a") / "b")}
        assert records.measurements()["value"][0] == 2.0


def test_only_figures_are_logged_and_notes_are_plain() -> None:
    with Records() as records, records.start_run("x") as run:
        with pytest.raises(UsageError, match="A bare number has no unit"):
            run.log(FIGURE, 3.0)
        with pytest.raises(UsageError, match="plain data"):
            run.note("f", {1, 2})
        run.note("a", None)
        run.note("b", [1])
        run.note("b", {"c": None})
        assert len(records.measurements()) == 0
        assert records.runs()["notes"][0] == {"a": None, "b": {"c": None}}


def test_where_the_code_came_from(tmp_path: Path) -> None:
    outside = fingerprint(tmp_path)
    assert (outside["commit"], outside["dirty"]) == (None, None)
    assert outside["torch"]

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    fingerprint.cache_clear()
    inside = fingerprint(tmp_path)
    assert (inside["commit"], inside["dirty"]) == (git("rev-parse", "HEAD"), False)
    assert fingerprint(tmp_path / "inner")["commit"] is None  # below somebody else's project
    (tmp_path / "file").write_text("2")
    fingerprint.cache_clear()
    dirty = fingerprint(tmp_path)
    assert dirty["dirty"] is True
    (tmp_path / "file").write_text("3")
    fingerprint.cache_clear()
    assert fingerprint(tmp_path)["changes"] not in (None, dirty["changes"])  # one commit, two states of the checkout
    assert (inside["changes"], outside["changes"]) == (None, None)
    fingerprint.cache_clear()


def test_the_group_of_a_runner_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_RUN_GROUP", "g1")
    with Records() as records:
        records.start_run("a")
        assert records.runs()["run_group"].tolist() == ["g1"]


def test_places_where_records_cannot_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Records(tmp_path / "no" / "records.sqlite")
    with pytest.raises(UsageError, match="is a folder"):
        Records(tmp_path)
    monkeypatch.setattr(store, "is_network_filesystem", lambda path: True)
    monkeypatch.setattr(store, "filesystem_type", lambda path: "nfs4")
    with pytest.raises(NetworkHomeError, match=r"lie on nfs4.*Set LABKIT_HOME"):
        Records(tmp_path / "records.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_config_must_be_plain_data() -> None:
    with Records() as records, pytest.raises(UsageError, match="plain data"):
        records.start_run("x", config={"f": object()})


def test_backup_while_in_use(tmp_path: Path) -> None:
    with Records() as records:
        records.start_run("x")
        with records.database.transaction() as write:
            write.execute("UPDATE runs SET status = 'half'")
            # another connection copies what is committed
            with Records() as other:
                other.backup(tmp_path / "copy.sqlite")
    with Records(tmp_path / "copy.sqlite") as copy:
        assert copy.runs()["status"].tolist() == ["running"]


def test_a_backup_is_never_written_over(tmp_path: Path) -> None:
    taken = tmp_path / "taken.sqlite"
    taken.write_bytes(b"precious")
    with Records() as records:
        with pytest.raises(UsageError, match="exists already"):
            records.backup(taken)
        with pytest.raises(UsageError, match="does not exist"):
            records.backup(tmp_path / "no" / "copy.sqlite")
    assert taken.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [taken]


def test_a_file_that_is_taken_away_is_noticed_before_anything_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    records = Records(path)
    run = records.start_run("x")
    path.rename(tmp_path / "elsewhere.sqlite")
    with pytest.raises(RecordsError, match="moved or replaced"):
        run.log(FIGURE)
    records.close()
    with Records(path) as fresh:
        assert len(fresh.runs()) == 0
        with pytest.raises(RecordsError, match="put back to an earlier state"):
            run.log(FIGURE)
