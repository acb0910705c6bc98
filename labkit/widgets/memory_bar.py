"""The memory bar: one model's peak on one device, by ZeRO stage and precision, while the reader turns the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.errors import UsageError
from labkit.parallel.memory import MemoryUse, peak_memory
from labkit.parallel.shape import named_shape
from labkit.plots.memory import plot_memory
from labkit.units import GB
from labkit.widgets.controls import Choice, Control, Slider
from labkit.widgets.panel import Panel

__all__ = ["memory_bar"]

MODELS = ("llama-3-8b", "llama-2-13b", "llama-3-70b", "megatron-7.5b", "gpt-3-175b")
PRECISIONS = ("bf16-18", "bf16-16", "fp32")
STAGES = ("0 none", "1 optimizer", "2 + gradients", "3 + weights")


def memory_bar(device_bytes: float = 80 * GB, *, models: Sequence[str] = MODELS, seq_len: int = 4096) -> Panel:
    """A panel of one stacked bar a stage. device_bytes: what one device has; models: of `shape.SHAPES`."""
    if not 0 < device_bytes < float("inf"):
        raise UsageError(f"device_bytes must be finite and above 0; got {device_bytes!r}.")
    for name in models:
        named_shape(name)

    def compute(model: str, precision: str, devices: float, micro_batch: float, recompute: str) -> dict[str, MemoryUse]:
        options: dict[str, Any] = {"seq_len": seq_len, "micro_batch": int(micro_batch), "dp": round(devices)}
        options |= {"precision": precision, "recompute": recompute}
        return {name: peak_memory(named_shape(model), stage=i, **options) for i, name in enumerate(STAGES)}

    def draw(uses: dict[str, MemoryUse]) -> Any:
        return plot_memory(uses, limit_bytes=device_bytes, title=_finding(uses, device_bytes))

    controls: dict[str, Control] = {
        "model": Choice(options=tuple(models), label="model"),
        "precision": Choice(options=PRECISIONS, label="precision"),
        "devices": Slider(min=1, max=1024, value=64, step=0.30103, log=True, label="devices"),
        "micro_batch": Slider(min=1, max=16, value=1, step=1, label="micro-batch", unit="sequences"),
        "recompute": Choice(options=("none", "full"), label="recompute"),
    }
    return Panel(compute, draw, controls, title=f"Peak memory of one device, sequences of {seq_len:,} tokens")


def _finding(uses: dict[str, MemoryUse], device_bytes: float) -> str:
    fitting = [name for name, use in uses.items() if use.total_bytes <= device_bytes]
    if not fitting:
        least = min(use.total_bytes for use in uses.values()) / GB
        return f"◇ No stage fits {device_bytes / GB:.0f} GB: the least is {least:.0f} GB"
    if len(fitting) == len(uses):
        return f"◇ Even unsharded it fits {device_bytes / GB:.0f} GB"
    return f"◇ From stage {fitting[0]} on it fits {device_bytes / GB:.0f} GB"
