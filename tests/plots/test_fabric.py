"""The fabric's plot: points stand where they were measured, unseen ones open, each fit with a line and a marker."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from labkit.errors import UsageError
from labkit.measure import Measured
from labkit.plots import picture_png, plot_fabric


def _fit(op: str, factor: float) -> SimpleNamespace:
    def point(sent: float, late: float = 1.0) -> SimpleNamespace:
        value = (1e-3 + sent / 1e8) * late
        return SimpleNamespace(
            bytes_sent=sent,
            time=Measured(name="", value=value, unit="s", low=0.9 * value, high=1.1 * value, n=7),
        )

    return SimpleNamespace(
        op=op,
        ranks=2,
        alpha_s=1e-3,
        bandwidth_bytes_per_s=1e8,
        error=abs(1 / factor - 1),
        fitted=[point(1e4), point(1e6)],
        held_out=[point(1e5, factor)],
        time_s=lambda sent: 1e-3 + sent / 1e8,
    )


def test_points_stand_where_they_were_measured_and_lines_where_the_fit_is() -> None:
    figure = plot_fabric([_fit("all_reduce", 1.25), _fit("send", 1.1)])
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("sent by each rank (MB)", "time (ms)")
    drawn = [line for line in axes.lines if len(line.get_xdata())]
    curves = [line for line in drawn if len(line.get_xdata()) == 100]
    assert len(curves) == 2
    for curve in curves:
        assert np.allclose(curve.get_ydata(), 1 + np.asarray(curve.get_xdata()) / 0.1)
    marks = [line for line in drawn if line.get_marker() in ("o", "D")]
    assert [list(line.get_xdata()) for line in marks] == [[0.01, 1.0], [0.1], [0.01, 1.0], [0.1]]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [False, True, False, True]
    assert marks[1].get_ydata() == pytest.approx([2.5])


def test_the_finding_names_the_worst_and_the_legend_needs_no_colour() -> None:
    figure = plot_fabric([_fit("all_reduce", 1.25), _fit("send", 1.1)])
    (axes,) = figure.axes
    title = axes.get_title(loc="left").replace("\n", " ")
    assert title == "A latency and a bandwidth tell the time of sizes not seen within 20% at worst (all-reduce)"
    handles, labels = axes.get_legend_handles_labels()
    assert labels[0] == "all-reduce, 2 ranks: 1 ms + bytes ÷ 100 MB/s"
    assert len({(handle.get_linestyle(), handle.get_marker()) for handle in handles}) == 3
    assert "1 held out, off by 20%" in figure.description
    assert picture_png(figure).startswith(b"\x89PNG")
    assert plot_fabric([_fit("send", 1.1)], title="Mine").axes[0].get_title(loc="left") == "Mine"


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match=r"plot_fabric got no fit; fit_fabric\(measure_fabric\(…\)\) makes them"):
        plot_fabric([])
