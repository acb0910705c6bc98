"""Ceilings measured for real, at sizes that cost little; what is counted is checked, never how fast it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit import calibrate
from labkit.calibrate import bandwidth, ceilings
from labkit.errors import NoSpaceError, NotMeasurableError, UsageError
from labkit.hardware import machine
from labkit.measure import Measured
from labkit.records import Records
from labkit.units import MIB

SMALL = {"cpu": (64,), "cuda": (64,), "repeats": 3, "disk_bytes": MIB, "disk_repeats": 2}


def test_matmul_points_count_their_work() -> None:
    thin, fat = calibrate.measure_matmul("float32", [(1, 256, 128), (256, 256, 128)], repeats=3, device="cpu")
    assert (thin.flops, thin.num_bytes) == (2 * 256 * 128, 4 * (256 + 256 * 128 + 128))
    assert fat.intensity > thin.intensity
    assert fat.flops_per_s.value == pytest.approx(fat.flops / fat.time.value)
    assert (fat.flops_per_s.unit, fat.time.n) == ("FLOP/s", 3)
    assert calibrate.measure_matmul("bfloat16", [(8, 8, 8)], repeats=1, device="cpu")[0].num_bytes == 2 * 3 * 64


def test_bandwidth_counts_two_reads_and_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    second = Measured(name="triad", value=1.0, unit="s", low=1.0, high=1.0, n=1)
    monkeypatch.setattr(bandwidth, "repeat", lambda fn, **_: (fn(), second)[1])
    assert calibrate.measure_bandwidth(num_bytes=4 * MIB, device="cpu").value == 3 * 4 * MIB


def test_disk_is_measured_and_cleaned(tmp_path: Path) -> None:
    ticks = iter(range(1000))
    found = calibrate.measure_disk(tmp_path, num_bytes=3 * MIB + 17, repeats=3, clock=lambda: next(ticks))
    assert {name: figure.value for name, figure in found.items()} == dict.fromkeys(("write", "read"), 3 * MIB + 17)
    assert found["write"].n == 3
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "free_bytes", lambda path: MIB)
    with pytest.raises(NoSpaceError, match=r"writes 4.0 MiB; 1.0 MiB are"):
        calibrate.measure_disk(tmp_path, num_bytes=4 * MIB)
    assert list(tmp_path.iterdir()) == []


def test_all_reduce_over_two_real_ranks() -> None:
    small, large = calibrate.measure_all_reduce(2, [4096, MIB], repeats=3, backend="gloo")
    assert (small.size_bytes, large.size_bytes, large.ranks, large.time.n) == (4096, MIB, 2, 3)
    # 2(n-1)/n of the size over the time: for two ranks, the size itself.
    assert large.bus_bandwidth.value == pytest.approx(MIB / large.time.value)
    assert large.bus_bandwidth.low <= large.bus_bandwidth.high


def test_everything_is_kept_with_the_machine_and_logged(monkeypatch: pytest.MonkeyPatch, lab_home: Path) -> None:
    monkeypatch.setitem(ceilings._SETTINGS, "quick", SMALL)
    monkeypatch.setattr(ceilings, "_ALL_REDUCE_BYTES", 4096)
    told: list[float] = []
    with Records() as records, records.start_run("00_test") as run:
        found = calibrate.calibrate("quick", run=run, on_progress=lambda fraction, _: told.append(fraction))
        logged = records.measurements()["name"].tolist()
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert logged == [figure.name for figure in found.figures()]
    assert found.missing == {}
    assert found.fastest_dtype in found.matmul
    again = calibrate.load()
    assert again.to_dict() == found.to_dict()
    assert (lab_home / "machines" / f"{machine().id}.json").is_file()


def test_what_cannot_be_measured_is_missing_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ceilings._SETTINGS, "quick", SMALL)

    def no_fabric(*args: object, **kwargs: object) -> None:
        raise NotMeasurableError("one core")

    monkeypatch.setattr(ceilings, "measure_all_reduce", no_fabric)
    monkeypatch.setattr(bandwidth, "free_bytes", lambda path: 0)
    monkeypatch.setattr(ceilings, "supported_dtypes", lambda here: {"float32": True, "bfloat16": "no such kernel"})
    found = calibrate.calibrate("quick")
    assert (found.all_reduce, found.disk_write) == (None, None)
    assert found.missing["all_reduce"] == "one core"
    assert found.missing["matmul bfloat16"] == "no such kernel"
    assert "free" in found.missing["disk"]
    assert calibrate.load().missing == found.missing


def test_a_dtype_without_instructions_is_measured_on_a_small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ceilings._SETTINGS, "quick", SMALL)
    asked: dict[str, list[tuple[int, int, int]]] = {}

    def measured(dtype: str, shapes: list[tuple[int, int, int]], **rest: Any) -> Any:
        asked[dtype] = shapes
        return calibrate.measure_matmul(dtype, [(8, 8, 8)], repeats=1, device="cpu")

    monkeypatch.setattr(ceilings, "measure_matmul", measured)
    monkeypatch.setattr(ceilings, "supported_dtypes", lambda here: {"float32": True, "bfloat16": True})
    monkeypatch.setattr(ceilings, "model_dtype", lambda device: "float32")
    calibrate.calibrate("quick")
    assert asked["bfloat16"] == [(256, 256, 256)]
    assert asked["float32"] == [(size,) * 3 for size in SMALL[machine().device]]


def test_a_machine_without_ceilings_and_a_torn_file(lab_home: Path) -> None:
    with pytest.raises(NotMeasurableError, match="Run lesson 00_start_here first"):
        calibrate.load()
    (lab_home / "machines" / f"{machine().id}.json").write_text('{"matmul": ')
    with pytest.raises(NotMeasurableError, match="cannot be read"):
        calibrate.load()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calibrate.calibrate("fast"), "profile must be quick or full; got 'fast'"),
        (lambda: calibrate.measure_matmul("float33", [(1, 1, 1)]), "got 'float33'"),
        (lambda: calibrate.measure_matmul("int8", [(1, 1, 1)]), "got 'int8'"),
        (lambda: calibrate.measure_matmul("float32", [(0, 1, 1)]), "at least 1"),
        (lambda: calibrate.measure_all_reduce(1), "at least 2 ranks"),
        (lambda: calibrate.measure_all_reduce(2, [6]), "multiples of 4"),
        (lambda: calibrate.measure_disk(num_bytes=0), "at least 1"),
        (lambda: calibrate.measure_bandwidth(num_bytes=1), "at least one float32"),
    ],
)
def test_bad_input(call, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call()
