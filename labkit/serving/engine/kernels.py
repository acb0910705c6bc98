"""A step's operations between its products as kernels of the lab's own, compiled for one model on this processor."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from labkit.hardware import cpp_compiler

__all__ = ["Kernels", "compile_kernels"]

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILER = cpp_compiler()


class Kernels:
    """kernels.cpp's functions on tensors of a CPU, all of the dtype that they were compiled for."""

    def __init__(self, library: ctypes.CDLL) -> None:
        number, address = ctypes.c_int64, ctypes.c_void_p
        self._rms_norm, self._swiglu = library.rms_norm, library.swiglu
        self._rotate, self._attend = library.rotate, library.paged_attention
        self._rms_norm.argtypes = (address, address, address, ctypes.c_float, number, number)
        self._swiglu.argtypes = (address, address, number, number)
        self._rotate.argtypes = (address, number, number, number, address, address, number)
        tokens = (address, number) * 3
        self._attend.argtypes = (address, *tokens, address, address, number, address, number)
        for function in (self._rms_norm, self._swiglu, self._rotate, self._attend):
            function.restype = None

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """(..., size), its numbers side by side, and (size,) -> (..., size)."""
        out, size = torch.empty_like(x), len(weight)
        self._rms_norm(out.data_ptr(), x.data_ptr(), weight.data_ptr(), eps, x.numel() // size, size)
        return out

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """Gate and up in one tensor, (..., 2 · size), its numbers side by side -> (..., size)."""
        *shape, both = gate_up.shape
        out = torch.empty(*shape, both // 2, dtype=gate_up.dtype)
        self._swiglu(out.data_ptr(), gate_up.data_ptr(), gate_up.numel() // both, both // 2)
        return out

    def rotate(self, heads: Tensor, num_heads: int, cos: Tensor, sin: Tensor) -> None:
        """Turn the first num_heads of each token's heads in place: (..., T, heads, head_dim), side by side, by
        ``rotary_tables`` of (T,) or (..., T) positions."""
        stride = heads.shape[-2] * heads.shape[-1]
        self._rotate(
            heads.data_ptr(), stride, num_heads, heads.numel() // stride,
            cos.data_ptr(), sin.data_ptr(), cos.numel() // heads.shape[-1],
        )  # fmt: skip

    def paged_attention(
        self, q: Tensor, k: Tensor, v: Tensor, cache: Tensor, tables: Tensor, lengths: Tensor
    ) -> Tensor:
        """Of the new tokens q: (D, num_heads, head_dim) and k, v: (D, num_kv_heads, head_dim), heads side by side.
        k and v are written into the layer's cache. tables: (D, max_blocks) and lengths: (D,), both int64."""
        out = torch.empty(q.shape, dtype=q.dtype)
        self._attend(
            out.data_ptr(), q.data_ptr(), q.stride(0), k.data_ptr(), k.stride(0), v.data_ptr(), v.stride(0),
            cache.data_ptr(), tables.data_ptr(), tables.stride(0), lengths.data_ptr(), len(lengths),
        )  # fmt: skip
        return out


@functools.cache
def compile_kernels(
    *, dtype: torch.dtype, num_heads: int, num_kv_heads: int, head_dim: int, block_size: int
) -> Kernels | None:
    """Those of a model in bfloat16 or float32. None where they cannot be compiled: torch's operations do the same,
    slower.

    Compiling takes a third of a second, so that every process compiles its own, for the processor that it runs on.
    """
    if sys.platform != "linux":
        return None
    sizes = {"GROUP": num_heads // num_kv_heads, "KV_HEADS": num_kv_heads, "HEAD_DIM": head_dim}
    defined = [f"-D{name}={size}" for name, size in (sizes | {"BLOCK_SIZE": block_size}).items()]
    defined += ["-DFLOAT32"] if dtype == torch.float32 else []
    compiled = [COMPILER, "-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", *defined, "-c", str(SOURCE)]
    try:
        with tempfile.TemporaryDirectory(prefix="labkit-kernel-") as folder:
            object_file, library = f"{folder}/kernels.o", f"{folder}/kernels.so"
            subprocess.run([*compiled, "-o", object_file], check=True, capture_output=True)
            # Linked without two of its flags: -ffast-math would round denormals to zero in the whole process, and
            # OpenMP's threads are to be the ones that torch has already.
            subprocess.run([COMPILER, "-shared", object_file, "-lm", "-o", library], check=True, capture_output=True)
            return Kernels(ctypes.CDLL(library))
    except (OSError, subprocess.CalledProcessError):  # no compiler, an old one, no room
        return None
