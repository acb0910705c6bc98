"""torch's own profiler, opened the same way wherever the lab traces."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["tracer"]


def tracer(*, on_gpu: bool, with_flops: bool = False) -> Any:
    """A context manager; its ``events()`` are complete once it is left. on_gpu: the device's kernels, too."""
    # Its native half writes a line to stderr at each start and stop, which would stand in a learner's notebook.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    return profile(activities=activities, with_flops=with_flops)
