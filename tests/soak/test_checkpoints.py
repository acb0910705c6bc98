"""Two hundred kills at random points of checkpoints, on one rank and on two: nothing committed may be lost or torn."""

from __future__ import annotations

import pytest

from labkit.checkpoint.drill import kill_drill

pytestmark = [pytest.mark.soak]


@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_kills(seed: int) -> None:
    done = kill_drill(50, seed=100 + seed)
    assert done.passed, done
    assert done.kills == 50
