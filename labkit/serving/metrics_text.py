"""Prometheus' text format: samples by their name.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. Every line is a comment, or
``name{label="value",…} number`` with an optional timestamp, and the last one ends with a line feed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from labkit.errors import EndpointError

__all__ = ["Samples", "parse_samples"]

Samples = Mapping[str, tuple[tuple[Mapping[str, str], float], ...]]  # name -> (labels, value) of each series

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\\n]|\\.)*)"'
LABELS = re.compile(rf"\s*{LABEL}\s*(?:,|$)")
SAMPLE = re.compile(rf'({NAME})\s*(?:\{{((?:[^"}}\n]|"(?:[^"\\\n]|\\.)*")*)\}})?\s+(\S+)(?:\s+-?\d+)?\s*')
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parse_samples(text: str) -> Samples:
    """All samples of a page. EndpointError, with the line, when the text is something else or was cut off."""
    found: defaultdict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    lines = text.split("\n")
    if lines[-1]:
        raise EndpointError(f"The metrics were cut off; they end with {_shown(lines[-1])}. Ask for them again.")
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        try:
            if match is None:
                raise ValueError
            found[match[1]].append((_labels(match[2] or ""), float(match[3])))
        except ValueError:
            raise EndpointError(
                f"The metrics are not Prometheus' text format; line {number} is {_shown(line)}. "
                "Is there a server such as vLLM at that address?"
            ) from None
    if not found:
        raise EndpointError("The metrics are empty. Is there a server such as vLLM at that address?")
    return {name: tuple(series) for name, series in found.items()}


def _labels(text: str) -> Mapping[str, str]:
    labels, position = {}, 0
    while position < len(text):
        match = LABELS.match(text, position)
        if match is None:
            raise ValueError
        labels[match[1]] = re.sub(r"\\.", lambda escape: ESCAPES.get(escape[0], escape[0]), match[2])
        position = match.end()
    return labels


def _shown(line: str) -> str:
    return repr(line if len(line) <= 80 else line[:80] + "…")
