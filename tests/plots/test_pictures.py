"""Pictures show themselves without pyplot, sharp and with words; the style fits every plot."""

from __future__ import annotations

import struct
import subprocess
import sys

from matplotlib.figure import Figure

from labkit.plots import axis_scale, new_plot, picture_html, picture_png, show
from labkit.plots.style import COLORS, text_on


def test_no_plot_keeps_pyplot_state() -> None:
    code = (
        "import sys; from labkit.plots import new_plot, picture_png; picture_png(new_plot('a', 'x (s)', 'y (B)')[0]);"
        "import labkit.widgets; sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_axis_scale_agrees_with_format_quantity() -> None:
    assert axis_scale([8e10, 2e9], "FLOP/s") == (1e9, "GFLOP/s")
    assert axis_scale([0.0123], "s") == (1e-3, "ms")
    assert axis_scale([1234.0], "tokens/s") == (1.0, "tokens/s")
    assert axis_scale([0.0], "s") == (1.0, "s")


def test_text_on_every_colour_reads() -> None:
    assert (text_on("#000000"), text_on("#ffffff")) == ("#ffffff", "#000000")
    assert text_on(COLORS[0]) == "#ffffff"  # the blue
    assert text_on(COLORS[6]) == "#000000"  # the yellow


def test_a_long_finding_wraps_and_a_dollar_is_a_dollar() -> None:
    figure, axes = new_plot("It costs $3 or $4 an hour, " + "and so on " * 9, "time (s)", "price (USD)")
    assert axes.get_title(loc="left").count("\n") == 1
    assert picture_png(figure).startswith(b"\x89PNG")


def test_show_gives_any_figure_a_picture_and_words() -> None:
    plain = Figure(figsize=(2, 1))
    plain.add_subplot().set_title('Say "<b>"')
    shown = show(plain)
    assert repr(shown) == 'Say "<b>".'
    assert 'alt="Say &quot;&lt;b&gt;&quot;."' in shown._repr_html_()
    picture, _ = new_plot("Nothing yet", "x (s)", "y (B)")
    assert show(picture) is picture
    assert picture_html(picture).startswith('<img alt="Nothing yet."')


def test_png_size_follows_the_scale() -> None:
    figure, _ = new_plot("Size", "x (s)", "y (B)")
    sizes = [struct.unpack(">II", picture_png(figure, scale=scale)[16:24]) for scale in (1.0, 2.0)]
    assert sizes == [(700, 400), (1400, 800)]
    canvas = figure.canvas
    picture_png(figure)
    assert figure.canvas is canvas  # the Agg canvas is reused
