"""Build the lab's environment: `make setup`. Standard library only; it says in one line what is wrong and what to do.

The steps: choose (platforms.py), check the disk, make .venv, install uv by hash, install the lock without resolving,
torch by its exact version, labkit itself, git's notebook diff. A stamp makes a second call take milliseconds.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from platforms import Refusal, parse_driver_version, plan
from torch_wheel import find_links_of, pip_settings, torch_arguments

ROOT = Path(__file__).resolve().parents[1]
STAMP = "labkit-setup.json"


def say(message):
    print(message, flush=True)


def nvidia_driver():
    """The driver's version as a tuple, or None. (nvcc or CUDA libraries without a driver are no GPU.)"""
    proc = Path("/proc/driver/nvidia/version")
    if proc.is_file():
        return parse_driver_version(proc.read_text())
    wsl = Path("/usr/lib/wsl/lib/nvidia-smi")
    if not wsl.is_file():
        return None
    query = [str(wsl), "--query-gpu=driver_version", "--format=csv,noheader"]
    out = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return parse_driver_version(out.stdout)


def this_machine(forced):
    libc, version = platform.libc_ver()
    glibc = tuple(int(p) for p in version.split(".")[:2]) if libc == "glibc" else None
    return plan(platform.system(), platform.machine(), sys.version_info[:2], glibc, nvidia_driver(), forced)


def stamp_of(choice, environment):
    """What the environment was built from; any change of it builds anew."""
    digest = hashlib.sha256()
    inputs = (
        "locks/uv.txt",
        "locks/" + choice.lock,
        "pyproject.toml",
        "scripts/environment.py",
        "scripts/torch_wheel.py",
    )
    for name in inputs:
        digest.update((ROOT / name).read_bytes())
    return {
        "inputs": digest.hexdigest(),
        "accelerator": choice.accelerator,
        "left_out": list(choice.left_out),
        "reason": choice.reason,
        "root": str(ROOT),
        "environment": str(environment),
    }


def run(step, command, **extra_env):
    """Run one step, its output shown; a failure becomes one line with what to do."""
    started = time.monotonic()
    say(f"  {step} …")
    child_env = dict(os.environ, **extra_env)
    # On a terminal uv draws its own progress bars. A step that fails there is tried once more with its output kept,
    # which helps where the network faltered and tells the reason where it did not.
    code = subprocess.run(command, env=child_env).returncode if sys.stderr.isatty() else None
    if code != 0:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "universal_newlines": True}
        done = subprocess.run(command, env=child_env, **pipes)
        if done.returncode:
            tail = done.stdout.splitlines()[-30:]
            sys.stderr.write("\n".join(tail) + "\n")
            raise Refusal(f"{step} failed: {diagnose(tail)}")
    say(f"  {step}: {time.monotonic() - started:.1f} s")


def diagnose(tail):
    """The one line for the usual causes, from the last lines that the failing tool printed."""
    text = "\n".join(tail).lower()
    causes = (
        (("no space left", "disk quota"), "the disk is full. Free some space and run `make setup` again."),
        (
            (
                "dns error",
                "failed to fetch",
                "connection refused",
                "network is unreachable",
                "timed out",
                "name resolution",
            ),
            "no package index was reached. Check the network or the proxy, or set PIP_INDEX_URL to a mirror.",
        ),
        (
            ("no wheels", "no usable wheels", "no solution found", "no matching distribution", "not a supported wheel"),
            "a package has no wheel for this machine (named above). Please report it with the lines above.",
        ),
        (("ensurepip", "no module named venv"), "this Python has no venv. Install python3.11-venv."),
        (
            ("hash mismatch", "do not match the hashes"),
            "a download differs from the lock. Try again; if it stays, do not go on.",
        ),
    )
    for words, cure in causes:
        if any(word in text for word in words):
            return cure
    return "see the lines above, then run `make setup` again."


def build(choice, environment, in_conda):
    """Everything from nothing, or over an older environment (uv changes only what differs)."""
    free_gb = shutil.disk_usage(str(environment.parent)).free / 1e9
    python = environment / "bin" / "python"
    if free_gb < choice.need_gb and not python.exists():
        raise Refusal(
            f"{choice.need_gb} GB of free disk are needed at {environment.parent}; {free_gb:.1f} GB are free."
        )
    if not in_conda and not python.exists():
        run("Python environment", [sys.executable, "-m", "venv", str(environment)])
    uv = environment / "bin" / "uv"
    have = subprocess.run([str(uv), "--version"], stdout=subprocess.PIPE).stdout.decode() if uv.exists() else ""
    wanted = (ROOT / "locks" / "uv.txt").read_text().split("==")[1].split()[0]
    if wanted not in have.split():
        pip = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--require-hashes"]
        run("uv", [*pip, "--disable-pip-version-check", "-r", str(ROOT / "locks" / "uv.txt")])
    settings = pip_settings(str(python))
    mirror = {}
    if settings.get("index-url"):
        mirror["UV_DEFAULT_INDEX"] = settings["index-url"]
    if settings.get("cert"):
        mirror["SSL_CERT_FILE"] = settings["cert"]
    install = [str(uv), "pip", "install", "--python", str(python), "--no-deps", "--no-progress"]
    if sys.stderr.isatty():
        install.remove("--no-progress")
    lock = str(ROOT / "locks" / choice.lock)
    run(
        "packages of locks/" + choice.lock,
        [*install, "--only-binary", ":all:", "--require-hashes", "-r", lock],
        **mirror,
    )
    version = torch_version()
    arguments = torch_arguments(version + choice.torch, choice.torch_index, find_links_of(settings))
    run(f"torch {version}{choice.torch}", [*install, *arguments], **mirror)
    run("labkit", [*install, "--no-build-isolation", "-e", str(ROOT)], **mirror)
    notebook_diff(environment)


def torch_version():
    """The exact version that pyproject.toml pins."""
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if '"torch==' in line:
            return line.split("torch==")[1].split('"')[0]
    raise Refusal("pyproject.toml pins no torch version; this checkout is damaged.")


def notebook_diff(environment):
    """nbdime as this clone's `git diff` and `git merge` for notebooks (.gitattributes names the drivers)."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return
    tools = environment / "bin"
    for key, value in (
        ("diff.jupyternotebook.command", f"'{tools}/git-nbdiffdriver' diff"),
        ("merge.jupyternotebook.driver", f"'{tools}/git-nbmergedriver' merge %O %A %B %L %P"),
        ("merge.jupyternotebook.name", "jupyter notebook merge driver"),
    ):
        subprocess.run(["git", "-C", str(ROOT), "config", key, value], check=True)


def main():
    parser = argparse.ArgumentParser(description="Build the lab's environment.")
    parser.add_argument("--environment", default=str(ROOT / ".venv"))
    parser.add_argument("--conda", action="store_true", help="the environment is an active conda one: install into it")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    options = parser.parse_args()
    environment = Path(options.environment).resolve()
    started = time.monotonic()
    try:
        choice = this_machine(options.accelerator)
        stamp_file, stamp = environment / STAMP, stamp_of(choice, environment)
        if stamp_file.is_file() and json.loads(stamp_file.read_text() or "{}") == stamp:
            return 0
        say(f"Setting up the lab in {environment} ({choice.reason})")
        stamp_file.unlink() if stamp_file.exists() else None
        build(choice, environment, options.conda)
        stamp_file.write_text(json.dumps(stamp, indent=1) + "\n")
    except Refusal as refusal:
        sys.stderr.write(f"make setup: {refusal}\n")
        return 1
    except OSError as error:
        sys.stderr.write(
            f"make setup: {error.strerror}: {error.filename}. Free space or permissions, then run it again.\n"
        )
        return 1
    say(f"Ready in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
