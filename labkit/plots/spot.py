"""Spot capacity in pictures: where a job's seconds went, what policies save, one job's instances with its money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, LINES, MARKERS, STYLE, axis_scale, new_plot
from labkit.spot.goodput import expected_goodput
from labkit.spot.ledger import PARTS, Ledger
from labkit.spot.simulation import Simulation
from labkit.spot.situation import IDLE, ON_DEMAND, SPOT

__all__ = ["plot_gap_closed", "plot_ledgers", "plot_price_of_progress", "plot_spot_job"]


def plot_ledgers(ledgers: Mapping[str, Ledger], *, title: str = "") -> Picture:
    """A bar a job: its seconds by part, over one time axis. The title is the finding, else each job's useful share."""
    if not ledgers:
        raise UsageError("plot_ledgers needs at least one ledger; got none.")
    parts = {name: ledger.parts_s() for name, ledger in ledgers.items()}
    scale, unit = axis_scale([ledger.elapsed_s for ledger in ledgers.values()], "s")
    told = ", ".join(f"{name} {part['useful'] / sum(part.values()):.0%}" for name, part in parts.items())
    figure, axes = new_plot(
        title or f"Useful time: {told}", f"time ({unit})", "", height=1.9 + 0.5 * len(ledgers),
        margins=(1.9, 0.3, 1.05, 0.5),
    )  # fmt: skip
    with rc_context(STYLE):
        reached = np.zeros(len(parts))
        for index, part in enumerate(PARTS):
            wide = np.array([one[part] / scale for one in parts.values()])
            paint: dict[str, Any] = {
                "color": COLORS[index],
                "hatch": HATCHES[index],
                "edgecolor": INK,
                "linewidth": 0.5,
            }
            axes.barh(list(parts), wide, left=reached, label=part, **paint)
            reached += wide
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        figure.legend(*axes.get_legend_handles_labels(), loc="lower left", ncols=6, bbox_to_anchor=(0.1, 0.0))
    figure.description = "; ".join(
        f"{name}: " + ", ".join(f"{part} {seconds:.1f} s" for part, seconds in one.items())
        for name, one in parts.items()
    )
    return figure


def plot_gap_closed(closed: Mapping[str, Sequence[float]], deadlines: Sequence[float], *, title: str = "") -> Picture:
    """A line a policy: the part of the possible saving that it makes, by deadline ÷ work. closed: fractions."""
    if not closed or not all(len(line) == len(deadlines) > 0 for line in closed.values()):
        raise UsageError("plot_gap_closed needs a value a deadline for every policy, and at least one of both.")
    found = ", ".join(f"{name} {line[0]:.0%}" for name, line in closed.items())
    figure, axes = new_plot(
        title or f"At the tightest deadline: {found}", "deadline ÷ work (×)", "saving made ÷ saving possible (%)"
    )
    with rc_context(STYLE):
        for index, (name, line) in enumerate(closed.items()):
            axes.plot(
                deadlines, [100 * value for value in line], label=f"◇ {name}", color=COLORS[index],
                marker=MARKERS[index], linestyle=LINES[index % 4],
            )  # fmt: skip
        axes.set_ylim(min(0.0, *(100 * min(line) for line in closed.values())), 103)
        axes.legend(loc="lower right")
    figure.description = "; ".join(f"{n}: " + ", ".join(f"{v:.0%}" for v in line) for n, line in closed.items())
    return figure


def plot_price_of_progress(
    prices: Mapping[str, float], write_s: float, restart_s: float, interval_s: float, work_s: float, *, title: str = ""
) -> Picture:
    """Money for one useful second, on demand being 1, by the time between reclaims: with and without checkpoints.

    prices: name -> spot price ÷ on-demand price. Closed form (Daly 2006), with each name's lines dashed without.
    """
    if not prices or not all(0 < price < np.inf for price in prices.values()):
        raise UsageError(f"plot_price_of_progress needs prices above 0; got {dict(prices)}.")
    mtbf_s = np.geomspace(restart_s, 3000 * restart_s, 80)
    figure, axes = new_plot(
        title or "With checkpoints, spot pays as soon as instances live a few restarts",
        "mean time between reclaims (s)", "price of progress, on demand = 1 (×)", log_x=True, log_y=True,
    )  # fmt: skip
    with rc_context(STYLE):
        for index, (name, price) in enumerate(prices.items()):
            for every_s, write, style, told in ((interval_s, write_s, "-", "with"), (work_s, 0.0, "--", "without")):
                goodput = np.array([expected_goodput(every_s, write, restart_s, float(m)) for m in mtbf_s])
                cost = np.divide(price, goodput, out=np.full_like(goodput, np.nan), where=goodput > 0)
                cost[cost > 30] = np.nan
                axes.plot(
                    mtbf_s, cost, style, color=COLORS[index], marker=MARKERS[index], markevery=8, markersize=4,
                    label=f"◇ {name}, {told} checkpoints",
                )  # fmt: skip
        axes.axhline(1.0, color=INK, linewidth=1)
        axes.annotate("on demand", (mtbf_s[-1], 1.0), xytext=(0, 4), textcoords="offset points", ha="right")
        axes.set_ylim(0.04, 30)
        axes.legend(loc="lower center", ncols=2)
    figure.description = (
        f"restart {restart_s:.3g} s, write {write_s:.3g} s, every {interval_s:.3g} s, work {work_s:.3g} s"
    )
    return figure


def plot_spot_job(ran: Simulation, window: NDArray[np.bool_], index: int = 0, *, title: str = "") -> Picture:
    """One simulated job: when spot was there, what was held, and the money running beside an on-demand job's.

    ran: with ``held``. window: (steps,). Money in hours of on-demand price.
    """
    if not len(ran.held):
        raise UsageError("plot_spot_job needs a simulation with keep_held=True.")
    job, held = ran.job, ran.held[index]
    hours = np.arange(job.deadline_steps + 1) * job.step_s / 3600
    money = np.concatenate([[0.0], np.cumsum(np.array([0.0, job.spot_price, 1.0])[held])]) * job.step_s / 3600
    plain = np.minimum(hours, job.on_demand_cost / 3600)
    done = f"done after {ran.finished_s[index] / 3600:.1f} h" if ran.finished_s[index] > 0 else "not done"
    figure, axes = new_plot(
        title or f"◇ {money[-1] / plain[-1]:.0%} of the on-demand money, {int(ran.reclaims[index])} reclaims, {done}",
        "time since the job's start (h)", "money (hours of on-demand price)", height=4.2,
        margins=(0.85, 0.25, 1.2, 0.5),
    )  # fmt: skip
    with rc_context(STYLE):
        axes.plot(hours, plain, color=INK, linestyle="--", label="on demand")
        axes.plot(hours, money, color=COLORS[0], linewidth=2, label="this policy")
        top = float(plain[-1]) * 1.05
        for row, (name, mask) in enumerate(
            (("spot is there", window[: len(held)]), ("spot held", held == SPOT), ("on demand held", held == ON_DEMAND))
        ):
            at = -0.07 * (row + 1) * top
            spans = [(hours[start], hours[end] - hours[start]) for start, end in _runs(mask)]
            axes.broken_barh(spans, (at, 0.05 * top), color=COLORS[row + 2], hatch=HATCHES[row], linewidth=0)
            axes.plot([], [], color=COLORS[row + 2], linewidth=6, label=f"bar {row + 1}: {name}")
        axes.axvline(job.deadline_s / 3600, color=INK, linestyle=":")
        axes.set_ylim(-0.23 * top, top)
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
        figure.legend(*axes.get_legend_handles_labels(), loc="lower left", ncols=3, bbox_to_anchor=(0.1, 0.0))
    idle = float(np.mean(held == IDLE))
    figure.description = f"{done}; {money[-1]:.1f} h of on-demand price against {plain[-1]:.1f}; idle {idle:.0%}"
    return figure


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
