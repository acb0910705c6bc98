"""Which number types this machine can multiply: each is tried, on a tiny matrix, and its result compared."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from labkit.hardware.attached import Machine, machine

if TYPE_CHECKING:
    import torch

__all__ = ["matmul", "model_dtype", "supported_dtypes"]

TRIED = ("float64", "float32", "bfloat16", "float16", "int8", "float8_e4m3fn", "float8_e5m2")
SIZE = 32  # the 8-bit kernels want multiples of 16, and int8 on CUDA more than 16 rows


def supported_dtypes(here: Machine | None = None) -> dict[str, bool | str]:
    """Name of a torch dtype -> True, or the reason in words why a matmul of it does not work here."""
    import torch

    device = (here or machine()).device
    return {name: _try(torch, name, device) for name in TRIED}


def model_dtype(device: str | None = None) -> str:
    """The dtype to serve a model in: "bfloat16", or "float32" on a CPU that has no instructions for it.

    Such a CPU can multiply bfloat16 all the same, but (torch 2.13 on AVX2) some seventy times as slowly as float32.
    """
    import torch

    if (device or machine().device) != "cpu":
        return "bfloat16"
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return "bfloat16" if has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a @ b`` by the kernel for their dtype: int8 sums into int32, float8 into bfloat16 with scales of 1.

    a (m, k) row by row; b (k, n), which float8 wants column by column, as ``x.t()`` of a contiguous (n, k) is.
    """
    import torch

    name = str(a.dtype).removeprefix("torch.")
    if name == "int8":
        return torch._int_mm(a, b)  # (m, k) @ (k, n) -> (m, n) int32
    if name.startswith("float8"):
        one = torch.ones((), device=a.device)
        return torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    return a @ b  # (m, k) @ (k, n) -> (m, n)


def _try(torch: Any, name: str, device: str) -> bool | str:
    if not hasattr(torch, name):
        return f"torch {torch.__version__} has no {name}"
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(-3, 4, (2, SIZE, SIZE), generator=generator)  # small whole numbers: exact in every type
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "experimental": whether it works is what we are finding out
            a, b = (part.to(getattr(torch, name)).to(device) for part in whole)
            # The second is stored column by column (b.t() made contiguous, turned back): float8 takes no other.
            product = matmul(a, b.t().contiguous().t()).cpu().double()
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    exact = whole[0].double() @ whole[1].double()
    # Sums reach 300; a result rounded to 8 bits of mantissa is off by less than 1 in 128.
    if not torch.allclose(product, exact, rtol=1 / 128, atol=0.5):
        return f"a {SIZE}x{SIZE} matmul in {name} gives a wrong result here"
    return True
