"""Decode's attention as a kernel of the lab's own, compiled for one model on this processor where a compiler is."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Kernel", "paged_attention"]

# (q, k, v, a layer's cache, block tables, lengths) -> what each query gathered: see paged_attention.cpp
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

SOURCE = Path(__file__).with_name("paged_attention.cpp")
COMPILER = os.environ.get("CXX", "g++")


@functools.cache
def paged_attention(*, num_heads: int, num_kv_heads: int, head_dim: int, block_size: int) -> Kernel | None:
    """The kernel for bfloat16 on the CPU; None where it cannot be compiled: torch's operations do the same, slower.

    Compiling takes a quarter of a second, so that every process compiles its own, for the processor that it runs on.
    """
    if sys.platform != "linux":
        return None
    sizes = {"GROUP": num_heads // num_kv_heads, "KV_HEADS": num_kv_heads, "HEAD_DIM": head_dim}
    defined = [f"-D{name}={size}" for name, size in (sizes | {"BLOCK_SIZE": block_size}).items()]
    compiled = [COMPILER, "-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", *defined, "-c", str(SOURCE)]
    try:
        with tempfile.TemporaryDirectory(prefix="labkit-kernel-") as folder:
            object_file, library = f"{folder}/kernel.o", f"{folder}/kernel.so"
            subprocess.run([*compiled, "-o", object_file], check=True, capture_output=True)
            # Linked without two of its flags: -ffast-math would round denormals to zero in the whole process, and
            # OpenMP's threads are to be the ones that torch has already.
            subprocess.run([COMPILER, "-shared", object_file, "-lm", "-o", library], check=True, capture_output=True)
            function = ctypes.CDLL(library).paged_attention
    except (OSError, subprocess.CalledProcessError):  # no compiler, an old one, no room
        return None
    number, address = ctypes.c_int64, ctypes.c_void_p
    tokens = (address, number) * 3
    function.argtypes = (address, *tokens, address, address, number, address, number)
    function.restype = None

    def kernel(q: Tensor, k: Tensor, v: Tensor, cache: Tensor, tables: Tensor, lengths: Tensor) -> Tensor:
        """Of the new tokens q: (D, num_heads, head_dim) and k, v: (D, num_kv_heads, head_dim), heads side by side.
        k and v are written into the cache. tables: (D, max_blocks) and lengths: (D,), both int64."""
        out = torch.empty(q.shape, dtype=q.dtype)
        function(
            out.data_ptr(), q.data_ptr(), q.stride(0), k.data_ptr(), k.stride(0), v.data_ptr(), v.stride(0),
            cache.data_ptr(), tables.data_ptr(), tables.stride(0), lengths.data_ptr(), len(lengths),
        )  # fmt: skip
        return out

    return kernel
