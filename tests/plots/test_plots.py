"""Every plot names its axes with units and its finding; its marks stand where the data are; none needs colour."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.text import Text
from PIL import Image

from labkit.calibrate import Roofline
from labkit.errors import UsageError
from labkit.measure import Measured, Span, Timeline
from labkit.plots import (
    Picture,
    picture_png,
    plot_ceilings,
    plot_roofline,
    plot_samples,
    plot_timeline,
)
from labkit.plots.timeline import category_styles, shown_categories
from labkit.stats import median_interval


def measured(value: float, unit: str, spread: float = 0.1) -> Measured:
    low, high = value * (1 - spread), value * (1 + spread)
    return Measured(name="", value=value, unit=unit, low=low, high=high, n=7, warmup=2, machine="m")


@dataclass(frozen=True)
class Point:
    flops: float
    num_bytes: float
    time: Measured


ROOFLINE = Roofline(peak_flops_per_s=1e11, bandwidth_bytes_per_s=2e10)
FITTED = [Point(1e6, 1e6, measured(1e-4, "s")), Point(1e9, 1e7, measured(0.0125, "s"))]
HELD_OUT = [Point(1e8, 1e7, measured(1.5e-3, "s"))]
CEILINGS = SimpleNamespace(
    matmul={"float32": measured(1.1e11, "FLOP/s"), "bfloat16": measured(2.3e11, "FLOP/s")},
    bandwidth=measured(1.9e10, "B/s"),
    disk_write=measured(3e8, "B/s"),
    disk_read=measured(1.2e9, "B/s"),
    all_reduce=measured(1.4e9, "B/s"),
    missing={"float8": "this CPU has no float8 arithmetic"},
)
TIMELINE = Timeline(
    spans=(
        Span(lane="rank 0", name="forward", start_s=10.0, end_s=10.004, category="compute"),
        Span(lane="rank 0", name="all-reduce", start_s=10.004, end_s=10.01, category="collective"),
        Span(lane="rank 1", name="forward", start_s=10.0, end_s=10.002, category="compute"),
    )
)
SAMPLES = {"eager": [0.003, 0.0031, 0.0032, 0.0033, 0.0034, 0.0035, 0.0036], "cached": [0.001]}

PLOTS: dict[str, Callable[[], Picture]] = {
    "roofline": lambda: plot_roofline(ROOFLINE, FITTED, held_out=HELD_OUT),
    "timeline": lambda: plot_timeline(TIMELINE),
    "samples": lambda: plot_samples(SAMPLES),
    "ceilings": lambda: plot_ceilings(CEILINGS),
}
UNITS = {
    "roofline": [("arithmetic intensity (FLOP/B)", "reached (GFLOP/s)")],
    "timeline": [("time (ms)", "lane")],
    "samples": [("time (ms)", "row")],
    "ceilings": [("matmul (GFLOP/s)", "dtype"), ("bandwidth (GB/s, logarithmic)", "path")],
}


@pytest.mark.parametrize("name", PLOTS)
def test_axes_have_units_and_the_picture_a_title(name: str) -> None:
    figure = PLOTS[name]()
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == UNITS[name]
    title = figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    assert len(title) > 10
    assert title.replace("\n", " ") in repr(figure)


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_is_cut_off(name: str) -> None:
    figure = PLOTS[name]()
    picture_png(figure)  # places the texts
    width, height = figure.bbox.size
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
    assert len(shown) > 5
    ticks = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()}
    for text in shown:
        if text in ticks:  # matplotlib keeps ticks beyond the limits and does not draw them
            continue
        box = text.get_window_extent()
        assert box.x0 >= 0, text.get_text()
        assert box.y0 >= 0, text.get_text()
        assert box.x1 <= width + 1, text.get_text()
        assert box.y1 <= height + 1, text.get_text()


@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_shows_itself_once_as_png(name: str) -> None:
    figure = PLOTS[name]()
    data, size = figure._repr_png_()
    assert Image.open(io.BytesIO(data)).size == (2 * size["width"], 2 * size["height"])
    assert figure.dpi == 100
    assert (size["width"], size["height"]) == tuple(round(100 * inches) for inches in figure.get_size_inches())


def test_roofline_points_stand_at_their_intensity_and_rate() -> None:
    figure = plot_roofline(ROOFLINE, FITTED, held_out=HELD_OUT)
    axes = figure.axes[0]
    fitted, held_out = (container.lines[0] for container in axes.containers)
    assert fitted.get_xydata() == pytest.approx(np.array([[1.0, 10.0], [100.0, 80.0]]))
    assert held_out.get_xydata() == pytest.approx(np.array([[10.0, 1e8 / 1.5e-3 / 1e9]]))
    assert fitted.get_marker() != held_out.get_marker()
    # The interval of a time turns round in a rate: 10 GFLOP/s from 0.9 to 1.1 of the time.
    (bars,) = axes.containers[0].lines[2]
    assert bars.get_segments()[0] == pytest.approx(np.array([[1.0, 10 / 1.1], [1.0, 10 / 0.9]]))
    roof = axes.lines[0].get_xydata()
    assert roof[1].tolist() == pytest.approx([5.0, 100.0])  # the corner is the knee
    assert "knee 5 FLOP/B" in [text.get_text() for text in axes.texts]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_roofline_with_an_overhead_marks_what_it_expects() -> None:
    slow = Roofline(peak_flops_per_s=1e11, bandwidth_bytes_per_s=2e10, overhead_s=1e-3)
    marks = plot_roofline(slow, FITTED).axes[0].lines[2]
    assert marks.get_label() == "expected with 1 ms a call"
    assert marks.get_ydata() == pytest.approx([p.flops / slow.time_s(p.flops, p.num_bytes) / 1e9 for p in FITTED])


def test_roofline_without_points_and_with_its_own_title() -> None:
    figure = plot_roofline(ROOFLINE, [], title="Decode sits left of the knee")
    assert figure.axes[0].get_title(loc="left") == "Decode sits left of the knee"


def test_timeline_rows_bars_and_shares() -> None:
    axes = plot_timeline(TIMELINE).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rank 0", "rank 1"]
    boxes = sorted((p.get_extents().x0, p.get_extents().x1) for c in axes.collections for p in c.get_paths())
    assert [value for box in boxes for value in box] == pytest.approx([0.0, 2.0, 0.0, 4.0, 4.0, 10.0])  # ms from start
    assert [t.get_text() for t in axes.texts if "busy" in t.get_text()] == ["100% busy", "20% busy"]
    assert {c.get_hatch() for c in axes.collections} == {"", "///"}
    assert axes.get_title(loc="left") == "rank 0 is busy 100% of the time, rank 1 20%"


def test_categories_differ_by_hatch_and_colour_together() -> None:
    styles = category_styles([f"kind {i}" for i in range(20)])
    assert len(set(styles.values())) == 20
    first = list(styles.values())[:8]
    assert len({hatch for _, hatch in first}) == 8


def test_a_timeline_of_many_kinds_keeps_the_longest() -> None:
    spans = tuple(Span(lane="cpu", name=f"op {i}", start_s=i, end_s=i + 0.01 * (i + 1)) for i in range(30))
    shown = shown_categories(Timeline(spans=spans))
    assert len(set(shown)) == 12
    assert shown[0] == "other"
    assert shown[-1] == "op 29"


def test_a_timeline_of_one_instant_is_drawn() -> None:
    instant = Timeline(spans=(Span(lane="cpu", name="mark", start_s=1.0, end_s=1.0),))
    assert picture_png(plot_timeline(instant)).startswith(b"\x89PNG")


def test_samples_show_every_reading_its_median_and_interval() -> None:
    axes = plot_samples(SAMPLES).axes[0]
    dots = [c for c in axes.collections if isinstance(c, PathCollection)]
    assert dots[0].get_offsets()[:, 0].tolist() == pytest.approx([1e3 * v for v in SAMPLES["eager"]])
    assert (dots[0].get_offsets()[:, 1].tolist()) == sorted(dots[0].get_offsets()[:, 1])  # in the order taken
    interval = median_interval(SAMPLES["eager"])
    box = next(c for c in axes.collections if isinstance(c, FillBetweenPolyCollection)).get_paths()[0].get_extents()
    assert (box.x0, box.x1) == pytest.approx((1e3 * interval.low, 1e3 * interval.high))
    assert [t.get_text() for t in axes.texts] == ["3.3 ms\nn = 7", "1 ms\nn = 1"]
    assert axes.get_title(loc="left") == "eager: 3.3 × the median of cached"


def test_ceilings_are_sorted_and_what_is_missing_is_named() -> None:
    left, right = plot_ceilings(CEILINGS).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["bfloat16", "float32"]
    assert [bar.get_width() for bar in left.patches] == pytest.approx([230.0, 110.0])
    assert [label.get_text() for label in right.get_yticklabels()] == [
        "memory",
        "all-reduce",
        "disk read",
        "disk write",
    ]
    assert [c.lines[0].get_xdata()[0] for c in right.containers] == pytest.approx([19.0, 1.4, 1.2, 0.3])
    figure = left.figure
    assert [text.get_text() for text in figure.texts if text.get_text().startswith("not")] == [
        "not measured here: float8"
    ]
    assert repr(figure).endswith("; no float8: this CPU has no float8 arithmetic.")


def test_ceilings_leave_out_what_was_not_measured() -> None:
    rest = {"disk_write": None, "disk_read": None, "all_reduce": None, "missing": {}}
    assert "20 GB/s from memory" in repr(
        plot_ceilings(SimpleNamespace(matmul={}, bandwidth=measured(2e10, "B/s"), **rest))
    )
    with pytest.raises(UsageError, match="without a single measurement"):
        plot_ceilings(SimpleNamespace(matmul={}, bandwidth=None, **rest))


def test_empty_data_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="at least one reading"):
        plot_samples({"a": []})
    with pytest.raises(UsageError, match="record at least one"):
        plot_timeline(Timeline(spans=()))
