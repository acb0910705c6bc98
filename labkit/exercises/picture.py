"""The expected picture: a cell that ends with a matplotlib figure, run, and its PNG."""

from __future__ import annotations

import ast
import base64
import io
from typing import Any

__all__ = ["png_of"]


def png_of(source: str, namespace: dict[str, Any]) -> str:
    """Run a picture's cell; base64 of the PNG of the figure that its last line is, or of matplotlib's current one."""
    import matplotlib

    matplotlib.use("agg")
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<picture>", "exec"), namespace)
    figure: Any = None
    if isinstance(last, ast.Expr):
        figure = eval(compile(ast.Expression(last.value), "<picture>", "eval"), namespace)
        figure = getattr(figure, "figure", figure)  # of axes
    if not hasattr(figure, "savefig"):
        from matplotlib import pyplot

        if not pyplot.get_fignums():
            raise TypeError(f"a picture's cell must end with a matplotlib figure; it ends with {type(figure).__name__}")
        figure = pyplot.gcf()
    png = io.BytesIO()
    # No software version in the file: two drawings by one matplotlib are equal byte for byte.
    figure.savefig(png, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})
    return base64.b64encode(png.getvalue()).decode()
