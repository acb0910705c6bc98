"""Plans side by side: what each device holds and what a step's time goes to, for the chosen plan and its rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from labkit.errors import UsageError
from labkit.plots.picture import Picture
from labkit.plots.style import COLORS, HATCHES, INK, MUTED, STYLE, hatch_on, new_plot
from labkit.units import GIB, format_bytes, format_seconds

__all__ = ["plot_plans"]

_BAR, _LEFT, _TOP, _FOOT = 0.42, 2.75, 0.65, 1.15  # inches: a plan's row, its name, the title, axis and legend
_NAMES: Mapping[str, str] = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "gathered": "gathered",
    "compute": "arithmetic",
    "memory": "memory traffic",
    "tensor": "tensor: exposed",
    "pipeline": "pipeline: sends",
    "bubble": "pipeline: bubble",
    "data": "data: exposed",
}


class _Use(Protocol):
    @property
    def by_class(self) -> Mapping[str, float]: ...
    @property
    def total_bytes(self) -> float: ...


class _Plan(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def memory(self) -> _Use: ...
    @property
    def budget_bytes(self) -> float: ...
    @property
    def parts_s(self) -> Mapping[str, float]: ...
    @property
    def step_time_s(self) -> float: ...
    @property
    def fits(self) -> bool: ...


def plot_plans(plans: Sequence[_Plan], *, title: str = "", width: float = 9.0) -> Picture:
    """A row a plan. Left: bytes on the fullest device, against what can be used; right: seconds of a step, by part.

    A plan that does not fit has no time: its row says by how much it misses. The title is the finding, else the first
    plan's lead over the second that fits.
    """
    if not plans:
        raise UsageError("plot_plans needs at least one plan; got none.")
    height = _TOP + _BAR * len(plans) + _FOOT
    figure, whole = new_plot(title or _finding(plans), "", "", width=width, height=height)
    whole.set_axis_off()
    with rc_context(STYLE):
        room = (width - _LEFT - 0.6) / 2
        bottom, tall = _FOOT / height, _BAR * len(plans) / height
        memory = figure.add_axes((_LEFT / width, bottom, room / width, tall))
        seconds = figure.add_axes(((_LEFT + room + 0.3) / width, bottom, room / width, tall))
        held = _draw(memory, [(plan.name, plan.memory.by_class, True) for plan in plans], 1 / GIB)
        spent = _draw(seconds, [("", plan.parts_s, plan.fits) for plan in plans], 1.0, first=len(held))
        memory.axvline(plans[0].budget_bytes / GIB, color=INK, linestyle="--", linewidth=1.4)
        # Plans that are far too large end beyond the axis; their number says how far.
        memory.set_xlim(0, 2.0 * plans[0].budget_bytes / GIB)
        seconds.set_xlim(0, 1.32 * max((plan.step_time_s for plan in plans if plan.fits), default=1.0))
        for row, plan in enumerate(plans):
            _label(memory, row, plan.memory.total_bytes / GIB, f"{plan.memory.total_bytes / GIB:.0f}")
            if plan.fits:
                _label(seconds, row, plan.step_time_s, format_seconds(plan.step_time_s))
            else:
                missing = format_bytes(plan.memory.total_bytes - plan.budget_bytes)
                seconds.text(0.02 * seconds.get_xlim()[1], row, f"does not fit by {missing}", va="center", fontsize=9)
        memory.set_xlabel("on one device (GiB); dashed: usable")
        seconds.set_xlabel("one step (s)")
        for left, handles in ((0.01, held), (0.49, spent)):
            figure.legend(handles=handles, loc="lower left", ncols=3, bbox_to_anchor=(left, 0), handlelength=1.4)
    figure.description = "; ".join(
        f"{plan.name}: {plan.memory.total_bytes / GIB:.1f} GiB, "
        + (format_seconds(plan.step_time_s) if plan.fits else "does not fit")
        for plan in plans
    )
    return figure


def _draw(
    axes: Axes, rows: Sequence[tuple[str, Mapping[str, float], bool]], scale: float, first: int = 0
) -> list[Patch]:
    """Stacked bars; the handles of the parts that are anywhere more than a hundredth of their bar."""
    drawn = [values for _, values, shown in rows if shown]
    parts = [p for p in rows[0][1] if any(v[p] > 0.01 * sum(v.values()) for v in drawn)]
    handles = []
    for number, part in enumerate(parts):
        color, hatch = COLORS[(first + number) % 8], HATCHES[(number + 1) % 8]
        paint: dict[str, Any] = {"facecolor": color, "hatch": hatch, "hatchcolor": hatch_on(color), "linewidth": 0}
        here = [row for row, (_, _, shown) in enumerate(rows) if shown]
        before = [scale * sum(values[p] for p in parts[:number]) for values in drawn]
        axes.barh(here, [scale * values[part] for values in drawn], left=before, height=0.64, **paint)
        handles.append(Patch(label=_NAMES.get(part, part), **paint))
    axes.set_yticks(range(len(rows)), [_wrapped(name) for name, _, _ in rows], fontsize=8.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return handles


def _wrapped(name: str) -> str:
    """On two lines: the mesh, and what is set besides."""
    mesh, _, rest = name.partition(", ")
    return f"{mesh}\n{rest}" if rest else mesh


def _label(axes: Axes, row: int, end: float, text: str) -> None:
    inside = min(end, axes.get_xlim()[1])
    beyond = inside < end
    axes.annotate(
        f"{text} →" if beyond else text,
        (inside, row),
        xytext=(-4 if beyond else 4, 0),
        textcoords="offset points",
        ha="right" if beyond else "left",
        va="center",
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": MUTED if beyond else "none", "linewidth": 0.5, "pad": 1.0},
    )


def _finding(plans: Sequence[_Plan]) -> str:
    fitting = [plan for plan in plans if plan.fits]
    if not fitting:
        return f"None of {len(plans)} plans fits"
    best = fitting[0]
    if len(fitting) == 1:
        return f"Only {best.name.partition(',')[0]} fits"
    slowest = max(plan.step_time_s for plan in fitting)
    return f"{best.name.partition(',')[0]}: the worst that fits takes {slowest / best.step_time_s:.1f}× as long"
