"""The pictures of spot capacity: what is drawn is what came, nothing to draw is refused."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import UsageError
from labkit.plots import picture_png, plot_gap_closed, plot_ledgers, plot_price_of_progress, plot_spot_job
from labkit.spot import SPOT, SpotJob, greedy, simulate_jobs
from labkit.spot.ledger import Attempt, Ledger

EVENTS = ((0.5, "born", 9), (1.0, "ready", 0), (2.0, "did", 1), (2.5, "saving", 1), (3.0, "saved", 1), (4.0, "did", 2))
ATTEMPT = Attempt(kind=SPOT, start_s=0.0, end_s=5.0, events=EVENTS, reclaimed=True)
LEDGER = Ledger(
    attempts=(ATTEMPT,), start_s=0.0, end_s=6.0, spot_price_usd_per_h=3600.0, on_demand_price_usd_per_h=9999.0
)


def test_the_parts_of_a_ledger() -> None:
    assert LEDGER.parts_s() == {
        "useful": 1.5,
        "saving": 0.5,
        "lost": 2.0,
        "starting": 1.0,
        "ending": 0.0,
        "waiting": 1.0,
    }
    assert LEDGER.usd == 5.0
    figure = plot_ledgers({"one": LEDGER})
    (axes,) = figure.axes
    assert [round(bar.get_width(), 6) for bar in axes.patches] == [1.5, 0.5, 2.0, 1.0, 0.0, 1.0]
    assert axes.get_title(loc="left") == "Useful time: one 25%"
    assert picture_png(figure).startswith(b"\x89PNG")


def test_one_job_and_its_money() -> None:
    job = SpotJob(work_s=7200, deadline_s=14400, restart_s=600, step_s=600, spot_price=0.5)
    window = np.arange(24) % 8 < 6
    ran = simulate_jobs(job, window[None], greedy, keep_held=True)
    figure = plot_spot_job(ran, window)
    assert figure.axes[0].lines[1].get_ydata()[-1] == pytest.approx(float(ran.cost[0]) / 3600)
    assert picture_png(figure).startswith(b"\x89PNG")


def test_lines_are_the_values() -> None:
    figure = plot_gap_closed({"ours": [0.5, 0.9], "greedy": [0.1, 0.4]}, [1.05, 1.2])
    assert list(figure.axes[0].lines[0].get_ydata()) == [50, 90]
    prices = plot_price_of_progress({"70 % off": 0.3}, 10, 120, 600, 48 * 3600)
    assert min(prices.axes[0].lines[0].get_ydata()[-5:]) == pytest.approx(0.3, rel=0.05)


def test_nothing_to_draw() -> None:
    for call in (
        lambda: plot_ledgers({}),
        lambda: plot_gap_closed({}, []),
        lambda: plot_price_of_progress({"free": 0.0}, 1, 1, 1, 1),
    ):
        with pytest.raises(UsageError):
            call()
