"""Which environment each kind of machine gets: the decision is a pure function, so every kind is tried here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


platforms = load("platforms")
torch_wheel = load("torch_wheel")
environment = load("environment")
LINUX = {"system": "Linux", "architecture": "x86_64", "python": (3, 11), "glibc": (2, 36)}


@pytest.mark.parametrize(
    ("machine", "accelerator", "torch"),
    [
        ({}, "cpu", "+cpu"),
        ({"driver": (580, 65)}, "gpu", ""),
        ({"driver": (580, 65), "forced": "cpu"}, "cpu", "+cpu"),
        ({"driver": (535, 183)}, "cpu", "+cpu"),  # too old for CUDA 13: said, and the CPU environment built
        ({"forced": "gpu"}, "gpu", ""),  # a build machine without a GPU may build the GPU environment
        ({"architecture": "aarch64"}, "cpu", "+cpu"),
        ({"architecture": "aarch64", "driver": (580, 65)}, "cpu", "+cpu"),
        ({"system": "Darwin", "architecture": "arm64", "glibc": None}, "cpu", ""),
    ],
)
def test_plan(machine: dict[str, object], accelerator: str, torch: str) -> None:
    plan = platforms.plan(**{**LINUX, **machine})
    assert (plan.accelerator, plan.torch) == (accelerator, torch)
    assert plan.lock == f"{accelerator}.txt"
    assert plan.reason


def test_what_has_no_wheel_is_named_for_doctor() -> None:
    assert platforms.plan("Darwin", "arm64", (3, 11)).left_out == ("vllm",)
    assert platforms.plan(**LINUX).left_out == ()


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({"python": (3, 12)}, "Python 3.11 is needed; this is 3.12"),
        ({"system": "Windows", "architecture": "AMD64", "glibc": None}, "WSL 2"),
        ({"system": "Darwin", "architecture": "x86_64", "glibc": None}, "Intel Macs"),
        ({"system": "Darwin", "architecture": "arm64", "forced": "gpu"}, "ACCELERATOR=cpu"),
        ({"glibc": None}, "musl"),
        ({"glibc": (2, 28)}, "glibc 2.28"),
        ({"architecture": "ppc64le"}, "ppc64le"),
        ({"architecture": "aarch64", "forced": "gpu"}, "x86_64 only"),
        ({"driver": (535, 1), "forced": "gpu"}, "Update the driver"),
        ({"system": "FreeBSD"}, "FreeBSD is not supported"),
        ({"forced": "tpu"}, "auto, cpu or gpu; got tpu"),
    ],
)
def test_refusals_say_why_in_one_line(machine: dict[str, object], words: str) -> None:
    with pytest.raises(platforms.Refusal) as caught:
        platforms.plan(**{**LINUX, **machine})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_driver_version_is_read_from_the_kernel_module_line() -> None:
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build"
    assert platforms.parse_driver_version(line) == (580, 65, 6)
    assert platforms.parse_driver_version("no version here 1.2") is None


def test_torch_comes_from_find_links_when_they_hold_it(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    here = torch_wheel.torch_arguments("2.13.0+cpu", platforms.PYTORCH_CPU_INDEX, [str(tmp_path)])
    assert here == ["--no-index", "--find-links", str(tmp_path), "torch==2.13.0+cpu"]
    other = torch_wheel.torch_arguments("2.14.0+cpu", platforms.PYTORCH_CPU_INDEX, [str(tmp_path)])
    assert other == ["--index-url", platforms.PYTORCH_CPU_INDEX, "torch==2.14.0+cpu"]
    assert torch_wheel.torch_arguments("2.13.0", "", []) == ["torch==2.13.0"]


def test_find_links_of_several_folders() -> None:
    assert torch_wheel.find_links_of({"find-links": "/a /b"}) == ["/a", "/b"]
    assert torch_wheel.find_links_of({}) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("error: Failed to fetch: `…` dns error", "Check the network"),
        ("Because foo==1 has no usable wheels", "no wheel for this machine"),
        ("Error: No module named venv", "python3.11-venv"),
        ("error: Hash mismatch for `foo`", "differs from the lock"),
        ("something else", "lines above"),
    ],
)
def test_a_failing_step_is_explained_in_one_line(line: str, words: str) -> None:
    assert words in environment.diagnose(["", line])


def test_a_failing_step_shows_its_output_and_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(environment.Refusal, match="disk is full"):
        environment.run("step", [sys.executable, "-c", "raise SystemExit('No space left on device')"])
    assert "No space left" in capsys.readouterr().err


def test_too_small_a_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    choice = platforms.plan(**LINUX)._replace(need_gb=10**9)
    with pytest.raises(environment.Refusal, match="GB of free disk are needed"):
        environment.build(choice, tmp_path / ".venv", in_conda=False)
    assert list(tmp_path.iterdir()) == []
