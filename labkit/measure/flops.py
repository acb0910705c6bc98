"""FLOPs that a piece of torch code really does, counted operator by operator as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["count_flops"]


def count_flops(fn: Callable[[], object]) -> int:
    """Multiplications and additions of matrix products, convolutions and attention, forward and backward.

    What torch has no formula for (sums, activations, an optimizer's update) counts nothing: it is memory traffic. What
    is computed twice (recomputed activations) counts twice. A causal mask halves nothing, as in published counts.
    """
    import torch
    from torch.utils import flop_counter

    by_torch: Any = flop_counter  # it has no types

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(by_torch.sdpa_flop_count(query, key, value))

    def attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(by_torch.sdpa_backward_flop_count(gradient, query, key, value))

    # torch knows its attention kernels on a GPU, and leaves out those on a CPU.
    formulas = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    }
    with by_torch.FlopCounterMode(display=False, custom_mapping=formulas) as counted:
        fn()
    return int(counted.get_total_flops())
