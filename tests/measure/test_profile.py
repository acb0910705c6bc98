"""The profile of a real training step, held to what is known of it."""

from __future__ import annotations

import pytest
import torch

from labkit.errors import UsageError
from labkit.measure import profile


def test_a_training_step_taken_apart() -> None:
    x, weights = torch.randn(64, 128), torch.randn(128, 256, requires_grad=True)

    def step() -> None:
        (x @ weights).relu().sum().backward()

    found = profile(step, steps=3)
    matmul = next(row for row in found.rows if row.name == "aten::mm")
    # Forward x @ w and backward x.T @ g (x needs no gradient): two matmuls a step, each 2·m·k·n FLOPs.
    assert (matmul.calls, matmul.flops) == (6, 6 * 2 * 64 * 128 * 256)
    assert [row.self_s for row in found.rows] == sorted((row.self_s for row in found.rows), reverse=True)
    assert all(row.self_s <= row.total_s + 1e-9 for row in found.rows)
    assert found.self_s > 0
    table = found.table()
    assert table["share"].sum() == pytest.approx(1)
    assert set(table.columns) == {"name", "calls", "self_s", "total_s", "flops", "share"}
    timeline = found.timeline()
    assert len(timeline.lanes) >= 1
    assert timeline.duration_s <= found.wall_s * 1.5 + 1


@pytest.mark.parametrize(("arguments", "words"), [({"steps": 0}, "steps must be"), ({"warmup": -1}, "warmup")])
def test_bad_input(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        profile(lambda: None, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="only a machine without a GPU can refuse one")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(UsageError, match='Use device="cpu"'):
        profile(lambda: None, device="cuda")
