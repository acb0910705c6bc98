"""Which environment a machine gets: a pure function of platform, driver and choice, so that it is tested for each.

Standard library only, and old syntax on purpose: this runs before anything is installed, on whatever Python is there.
"""

import collections

__all__ = ["CUDA_MIN_DRIVER", "MIN_GLIBC", "PYTHON", "Plan", "Refusal", "parse_driver_version", "plan"]

PYTHON = (3, 11)
MIN_GLIBC = (2, 31)  # the newest wheel tag in the locks is manylinux_2_31; scripts/lock.py resolves against it
CUDA_MIN_DRIVER = 580  # the CUDA 13 wheels of torch need this driver or newer (NVIDIA's CUDA 13.0 release notes)

Plan = collections.namedtuple("Plan", "accelerator lock torch torch_index left_out reason need_gb")
Plan.__doc__ = """What to install.

accelerator: 'cpu' or 'gpu'; lock: file under locks/; torch: requirement suffix ('+cpu' or ''), installed by a step of
its own; torch_index: an index to take it from where no local wheel is found ('' = the default one); left_out: names of
packages that have no wheel here; reason: one line for the user; need_gb: free disk wanted.
"""

PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class Refusal(Exception):
    """This machine cannot hold the lab; the message is one line that says why and what to do."""


def parse_driver_version(text):
    """``/proc/driver/nvidia/version`` -> ``(580, 65)``, or None where no version stands in it."""
    for word in text.split():
        parts = word.split(".")
        if len(parts) >= 2 and all(p.isdigit() for p in parts) and int(parts[0]) >= 100:
            return tuple(int(p) for p in parts)
    return None


def plan(system, architecture, python, glibc=None, driver=None, forced="auto"):
    """The Plan for a machine, or Refusal.

    system: platform.system(); architecture: platform.machine(); python: (major, minor); glibc: (major, minor) or None
    (musl, or not Linux); driver: the NVIDIA driver's version as a tuple, or None; forced: 'auto', 'cpu' or 'gpu'.
    """
    if forced not in ("auto", "cpu", "gpu"):
        raise Refusal(f"ACCELERATOR must be auto, cpu or gpu; got {forced}.")
    if tuple(python[:2]) != PYTHON:
        came = ".".join(str(p) for p in python[:2])
        raise Refusal(
            f"Python 3.11 is needed; this is {came}. Install python3.11, or run `make PYTHON=/path/to/python3.11`."
        )
    if system == "Windows":
        raise Refusal(
            "Windows itself is not supported (torch.distributed and vLLM need Linux). Run `make` inside WSL 2."
        )
    if system == "Darwin":
        return _mac(architecture, forced)
    if system != "Linux":
        raise Refusal(f"{system} is not supported; Linux and macOS on ARM are.")
    if glibc is None or glibc < MIN_GLIBC:
        came = "no glibc (musl)" if glibc is None else "glibc {}.{}".format(*glibc)
        raise Refusal(f"This Linux has {came}; the wheels need glibc 2.31 or newer (Debian 11, Ubuntu 20.04).")
    if architecture not in ("x86_64", "aarch64"):
        raise Refusal(f"No wheels exist for Linux on {architecture}; x86_64 and aarch64 have them.")
    return _linux(architecture, driver, forced)


def _mac(architecture, forced):
    if architecture != "arm64":
        raise Refusal("torch has no wheels for Intel Macs any more. Use an ARM Mac, or Linux in a virtual machine.")
    if forced == "gpu":
        raise Refusal("ACCELERATOR=gpu means an NVIDIA GPU under Linux; this is macOS. Use ACCELERATOR=cpu.")
    return Plan("cpu", "cpu.txt", "", "", ("vllm",), "macOS: CPU; vLLM has no wheel here", 4)


def _linux(architecture, driver, forced):
    cpu = Plan("cpu", "cpu.txt", "+cpu", PYTORCH_CPU_INDEX, (), "", 4)
    if forced == "cpu":
        return cpu._replace(reason="CPU, as ACCELERATOR=cpu asks")
    if architecture != "x86_64":
        if forced == "gpu":
            raise Refusal("The GPU lock is resolved for x86_64 only; this is aarch64. Use ACCELERATOR=cpu.")
        return cpu._replace(reason="CPU: the GPU lock is for x86_64 only")
    if driver is None and forced == "auto":
        return cpu._replace(reason="CPU: no NVIDIA driver found (force with ACCELERATOR=gpu)")
    if driver is not None and driver[0] < CUDA_MIN_DRIVER:
        came = ".".join(str(p) for p in driver)
        if forced == "gpu":
            raise Refusal(f"The NVIDIA driver is {came}; CUDA 13 needs {CUDA_MIN_DRIVER} or newer. Update the driver.")
        return cpu._replace(
            reason=f"CPU: the NVIDIA driver {came} is older than {CUDA_MIN_DRIVER}, which CUDA 13 needs"
        )
    reason = "GPU, as ACCELERATOR=gpu asks" if driver is None else f"GPU: NVIDIA driver {driver[0]}"
    return Plan("gpu", "gpu.txt", "", "", (), reason, 20)
