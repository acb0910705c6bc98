"""Two runs are told apart by what was recorded of them: seed, config, data, code, environment; and by nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from labkit.cli import main
from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.records import Records, data_version, environment, hygiene

ENVIRONMENT = {"python": "3.11.1", "packages": {"torch": "2.13.0", "numpy": "2.3.0"}, "variables": {}}
CODE = {"commit": "a" * 40, "dirty": False, "changes": None, "python": "3.11.1"}
BASE: dict[str, Any] = {
    "config": {"learning_rate": 0.1, "model": {"hidden": 32}}, "seed": 1, "code": CODE,
    "data": {"corpus": "sha256:1"}, "environment": ENVIRONMENT,
}  # fmt: skip
CHANGES: dict[str, tuple[dict[str, Any], str, Any, Any]] = {
    "seed": ({"seed": 2}, "", 1, 2),
    "config": ({"config": {"learning_rate": 0.1, "model": {"hidden": 64}}}, "model.hidden", 32, 64),
    "data": ({"data": {"corpus": "sha256:2"}}, "corpus", "sha256:1", "sha256:2"),
    "code": ({"code": CODE | {"commit": "b" * 40}}, "commit", "a" * 40, "b" * 40),
    "environment": (
        {"environment": ENVIRONMENT | {"packages": {"torch": "2.13.0", "numpy": "2.3.1"}}},
        "packages.numpy", "2.3.0", "2.3.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("part", CHANGES)
def test_the_one_thing_that_differs_is_found_and_nothing_else(part: str) -> None:
    changed, key, a, b = CHANGES[part]
    with Records() as records:
        first = records.start_run("x", **BASE)
        second = records.start_run("x", **(BASE | changed))
        found = records.diff(first.id, second.id)
        assert found.parts == (part,)
        assert [(one.part, one.key, one.a, one.b) for one in found.causes] == [(part, key, a, b)]
        assert found.unknown == ()
        assert records.diff(first.id, first.id).causes == ()
        assert json.loads(json.dumps(found.to_dict()))["causes"][0]["b"] == b


def test_what_was_not_recorded_is_said_to_be_unknown_not_equal() -> None:
    with Records() as records:
        bare = records.start_run("x", code={"commit": None, "dirty": None}, environment=ENVIRONMENT)
        full = records.start_run("x", **BASE)
        assert records.diff(bare.id, full.id).unknown == ("seed", "data", "code")


def test_the_seed_of_a_config_is_the_runs_seed_and_results_stand_side_by_side() -> None:
    with Records() as records:
        for seed in (3, 4):
            with records.start_run("x", config={"seed": seed}) as run:
                run.log(Measured(name="loss", value=seed / 2, unit="", low=0, high=9, n=1))
        assert records.runs()["seed"].tolist() == [3, 4]
        found = records.diff("x~1", "x")
        assert (found.parts, found.results) == (("seed",), (("loss", 1.5, 2.0, ""),))
        assert found.statuses == ("ok", "ok")


def test_every_run_keeps_its_environment_and_one_copy_serves_all() -> None:
    with Records() as records:
        for _ in range(2):
            records.start_run("x")
        (only,) = records.environments().values()
    assert only["packages"]["torch"] == metadata.version("torch")
    assert len(only["packages"]) > 50
    assert only == json.loads(json.dumps(environment()))


def test_names_of_runs() -> None:
    ids = iter(["aa1", "aa2", "b1"])
    with Records(new_id=lambda: next(ids)) as records:
        for name in ("x", "x", "y"):
            records.start_run(name)
        assert records.diff("b", "x~1").b == "aa1"
        for text, told in (
            ("aa", "2 runs begin with aa"),
            ("z", "No run has the id or the name 'z'"),
            ("x~2", "There are 2 runs of x"),
        ):
            with pytest.raises(UsageError, match=told):
                records.diff(text, "y")


def test_a_drifted_environment_is_seen_by_a_fresh_process(tmp_path: Path) -> None:
    """The same code and another version of one package, found as an interpreter finds it: on its path."""
    ask = "from labkit.records import environment; print(environment()['packages'].get('drifted-optim'))"
    for version in ("1.0", "1.1"):
        info = tmp_path / version / f"drifted_optim-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: drifted_optim\nVersion: {version}\n")
        code = f"import sys; sys.path.insert(0, {str(info.parent)!r}); {ask}"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert out.strip() == version


def test_the_version_of_data(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"abc")
    (file,) = data_version(tmp_path / "d" / "a").values()
    assert file == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    before = data_version(tmp_path / "d")
    (tmp_path / "d" / "a").rename(tmp_path / "d" / "b")
    renamed = data_version(tmp_path / "d")
    (tmp_path / "d" / "b").write_bytes(b"abd")
    assert len({*before.values(), *renamed.values(), *data_version(tmp_path / "d").values()}) == 3
    with pytest.raises(UsageError, match="No data is at"):
        data_version(tmp_path / "none")


def test_flat() -> None:
    assert hygiene.flat({"a": {"b": 1, "c": {"d": 2}}, "e": [1]}) == {"a.b": 1, "a.c.d": 2, "e": [1]}


def labkit(*words: object) -> int:
    return main([str(word) for word in words])


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert labkit("records", "runs") == 0
    assert "No run has been recorded" in capsys.readouterr().out
    with Records() as records:
        first = records.start_run("x", **BASE)
        records.start_run("x", **(BASE | {"seed": 2}))
    assert labkit("records", "diff", first.id[:12], "x", "--json") == 0
    assert json.loads(capsys.readouterr().out)["parts"] == ["seed"]
    assert labkit("records", "diff", "x~1", "x") == 0
    assert "seed: 1 → 2" in capsys.readouterr().out
    assert labkit("records", "diff", "x", "x") == 0
    assert "Nothing that was recorded differs" in capsys.readouterr().out
    assert labkit("records", "runs", "--json") == 0
    assert [row["seed"] for row in json.loads(capsys.readouterr().out)] == [1, 2]
    assert labkit("records", "diff", "x") == 2
    assert "needs 2 words; got 1" in capsys.readouterr().err
