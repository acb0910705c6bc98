"""Kills at seeded random points, through the command that runs them from outside."""

from __future__ import annotations

import json

import pytest

from labkit.checkpoint.drill import kill_drill
from labkit.cli import main
from labkit.errors import UsageError


def test_forty_kills_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drill", "checkpoint", "--kills", "40", "--seed", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kills"] == 40
    assert told["committed"] > 10
    assert (told["lost"], told["torn_restored"], told["bit_exact"]) == (0, 0, True)
    assert {"writing", "publishing", "pruning", "saving"} == set(told["where"])
    assert told["left_behind"] > 0  # kills did fall into the middle of something


@pytest.mark.parametrize(("kills", "seed"), [(0, 0), (-3, 0), (1, -1)])
def test_a_drill_without_kills_is_none(kills: int, seed: int) -> None:
    with pytest.raises(UsageError, match="at least 1 kill"):
        kill_drill(kills, seed=seed)
