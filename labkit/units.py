"""Units, converted here alone. GiB is 2**30 bytes, GB is 10**9; names elsewhere carry their unit (``ttft_s``)."""

from __future__ import annotations

import math

__all__ = [
    "GB",
    "GIB",
    "HOUR_S",
    "KB",
    "KIB",
    "MB",
    "MIB",
    "TERA",
    "format_bytes",
    "format_quantity",
    "format_seconds",
]

KB, MB, GB = 10**3, 10**6, 10**9
KIB, MIB, GIB = 2**10, 2**20, 2**30
TERA = 10**12
HOUR_S = 3600

_SI = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
# Units that take an SI prefix; any other (%, ×, samples, tokens/s…) is printed as it is.
_PREFIXED = {"s", "B", "B/s", "FLOP", "FLOP/s", "FLOP/B", "Hz", "W"}


def format_quantity(value: float, unit: str = "", *, digits: int = 3) -> str:
    """``format_quantity(1.31e9, "FLOP/s")`` -> ``"1.31 GFLOP/s"``; ``digits`` significant figures."""
    if not math.isfinite(value):
        return f"{value} {unit}".strip()
    exponent = 0
    if unit in _PREFIXED and value and unit != "FLOP/B":
        exponent = min(18, max(-12, 3 * math.floor(math.log10(abs(value)) / 3)))
        if float(f"{value / 10**exponent:.{digits}g}") >= 1000 and exponent < 18:  # 999.96 rounds up to the next prefix
            exponent += 3
        if unit == "s" and exponent > 0:
            exponent = 0  # nobody says kiloseconds
    number = _plain(value / 10**exponent, digits)
    return f"{number} {_SI[exponent]}{unit}".strip()


def _plain(value: float, digits: int) -> str:
    """A number of ``digits`` significant figures without an exponent where a reader expects none."""
    if 1e3 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e" in text and 1 <= abs(value) < 1e3 else text


def format_seconds(seconds: float) -> str:
    """``0.0123`` -> ``"12.3 ms"``, ``95`` -> ``"1 min 35 s"``, ``7300`` -> ``"2 h 2 min"``."""
    if not math.isfinite(seconds) or abs(seconds) < 60:
        return format_quantity(seconds, "s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def format_bytes(num_bytes: float) -> str:
    """Binary sizes, as tools for memory and disk print them: ``3221225472`` -> ``"3.0 GiB"``."""
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
