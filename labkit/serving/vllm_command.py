"""The command and the environment of vLLM's server, as pure functions of the device and the options.

The names come from vLLM 0.32: vllm/engine/arg_utils.py for the arguments, vllm/envs.py for the environment. On the CPU
the best of a sweep on two cores (SmolLM2-135M, bfloat16, tokens/s at 1 and at 32 sequences, compiled): vLLM's own
binding, which keeps a core free, 41 and 363; no binding and two threads 27 and 373; bound to every allowed core 42 and
500; with tcmalloc and Intel's OpenMP preloaded besides 45 and 547. Not compiled, in half the start-up time, 35 and 431.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import UsageError
from labkit.units import GIB

__all__ = ["VLLMOptions", "core_list", "found_preload", "vllm_command"]

HOST = "127.0.0.1"
CPU_KV_BYTES = 1 * GIB
MODULE = "vllm.entrypoints.openai.api_server"  # the `vllm` command of the CPU build dies for want of its metadata
TCMALLOC = "libtcmalloc_minimal.so.4"
STAMP = "%(created).3f "  # logging's own field: the log's lines begin with seconds since 1970, exact and zoneless


@dataclass(frozen=True, slots=True, kw_only=True)
class VLLMOptions:
    """What is asked of the server. None leaves the choice to the device: see ``vllm_command``."""

    model: str
    served_model_name: str
    offline: bool
    max_model_len: int
    dtype: str = "bfloat16"
    max_num_seqs: int = 32
    kv_cache_bytes: int | None = None
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool | None = None
    threads: int | None = None
    preload: tuple[Path, ...] = ()
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1:
            raise UsageError(f"max_num_seqs must be at least 1; got {self.max_num_seqs}.")
        if self.kv_cache_bytes is not None and self.kv_cache_bytes < 1:
            raise UsageError(f"kv_cache_bytes must be positive; got {self.kv_cache_bytes}. One GiB is 2**30.")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise UsageError(f"gpu_memory_utilization is a share, 0 to 1; got {self.gpu_memory_utilization}.")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1; got {self.threads}.")


def vllm_command(
    device: str, options: VLLMOptions, *, port: int, cores: Sequence[int]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command, and what is laid over this process's environment.

    device ``"cpu"``: bound to the first ``threads`` of ``cores`` (default: all of them), eager (half the start-up time)
    and a KV cache of 1 GiB unless asked otherwise. ``"cuda"``: nothing of that; CUDA graphs, and as much KV cache as
    gpu_memory_utilization leaves. options.env is laid over all, extra_args come last.
    """
    eager = options.enforce_eager if options.enforce_eager is not None else device == "cpu"
    kv_cache_bytes = options.kv_cache_bytes or (CPU_KV_BYTES if device == "cpu" else None)
    argv = [
        *(sys.executable, "-W", "ignore::DeprecationWarning", "-m", MODULE, "--host", HOST, "--port", str(port)),
        *("--model", options.model, "--served-model-name", options.served_model_name, "--dtype", options.dtype),
        *("--max-num-seqs", str(options.max_num_seqs), "--max-model-len", str(options.max_model_len)),
        "--disable-uvicorn-access-log",  # a line for each request, and the log is kept whole
        *(("--enforce-eager",) if eager else ()),
        *(("--gpu-memory-utilization", str(options.gpu_memory_utilization)) if device != "cpu" else ()),
        *(("--kv-cache-memory-bytes", str(kv_cache_bytes)) if kv_cache_bytes is not None else ()),
        *options.extra_args,
    ]
    env = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_PREFIX": STAMP,
        "NO_COLOR": "1",  # a Jupyter kernel sets FORCE_COLOR for its children
        **({"HF_HUB_OFFLINE": "1"} if options.offline else {}),
        **(_cpu_environment(options, cores) if device == "cpu" else {}),
    }
    return tuple(argv), env | dict(options.env)


def _cpu_environment(options: VLLMOptions, cores: Sequence[int]) -> dict[str, str]:
    if cores and options.threads is not None and options.threads > len(cores):
        raise UsageError(f"This process may use {len(cores)} cores; got threads={options.threads}.")
    if "VLLM_CPU_KVCACHE_SPACE" in os.environ and "VLLM_CPU_KVCACHE_SPACE" not in options.env:
        raise UsageError(
            "VLLM_CPU_KVCACHE_SPACE is set and would overrule kv_cache_bytes. Take it out of the environment."
        )
    bound = list(cores)[: options.threads]
    env = {"VLLM_CPU_OMP_THREADS_BIND": core_list(bound) if bound else "nobind"}
    if not bound:  # macOS has no affinity
        env["OMP_NUM_THREADS"] = str(options.threads or os.cpu_count() or 1)
    if options.preload:
        for path in options.preload:
            if " " in str(path) or ":" in str(path) or not path.is_file():
                raise UsageError(f"A library to preload is a file whose path has no space and no colon; got {path}.")
        before = os.environ.get("LD_PRELOAD", "")
        env["LD_PRELOAD"] = ":".join([*map(str, options.preload), *([before] if before else [])])
    return env


def core_list(cores: Iterable[int]) -> str:
    """Cores as VLLM_CPU_OMP_THREADS_BIND wants them: ``0-3,8`` (vllm/utils/ompmultiprocessing.py)."""
    ranges: list[list[int]] = []
    for core in sorted(set(cores)):
        if ranges and core == ranges[-1][1] + 1:
            ranges[-1][1] = core
        else:
            ranges.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def found_preload(prefix: Path, root: Path = Path("/")) -> tuple[Path, ...]:
    """The libraries that vLLM recommends on the CPU, where they are: Intel's OpenMP beside Python, tcmalloc anywhere.

    https://docs.vllm.ai/en/latest/getting_started/installation/cpu/, "set LD_PRELOAD". Linux alone has LD_PRELOAD.
    """
    if sys.platform != "linux":
        return ()
    beside = prefix / "lib"
    folders = (*sorted((root / "usr/lib").glob("*-linux-gnu")), root / "usr/lib64", root / "usr/lib", beside)
    tcmalloc = next((folder / TCMALLOC for folder in folders if (folder / TCMALLOC).is_file()), None)
    found = (tcmalloc, beside / "libiomp5.so")
    # The dynamic linker parts LD_PRELOAD at spaces and colons and knows no escape.
    return tuple(path for path in found if path and path.is_file() and not set(" :") & set(str(path)))
