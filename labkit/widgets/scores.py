"""Predictions against what was measured, and the verdicts on a lesson's claims."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from labkit.plots.figures import Shown, range_text
from labkit.records import Score, Verdict
from labkit.units import format_quantity

__all__ = ["score_view", "verdict_view"]

VERDICT_MARKS = {"holds": "✓", "does not hold here": "✗", "not measurable here": "–"}
_TONES = {"holds": "#2a9650", "does not hold here": "#dd4444", "not measurable here": "#828282"}
_WIDTH, _EDGE = 460.0, 56.0  # pixels of the picture, and what its labels may take at each end


def score_view(scores: Iterable[Score] | Score, calibration: Mapping[str, Any] | None = None) -> Shown:
    """What was said, what it was and by which factor that is off, each over a small logarithmic scale."""
    listed = list(scores) if isinstance(scores, Iterable) else [scores]
    text = [_sentence(score) for score in listed]
    html = "".join(
        f'<div style="margin:6px 0 12px"><div style="line-height:1.5">{escape(score.prediction.question)}<br>'
        f"<strong>{escape(_sentence(score))}</strong></div>{_picture(score)}</div>"
        for score in listed
    )
    if calibration is not None:
        said = _calibration(calibration)
        text.append(said)
        html += f'<div style="opacity:.8">{escape(said)}</div>'
    return Shown(f'<div class="labkit-scores">{html}</div>', "\n".join(text))


def verdict_view(verdicts: Iterable[Verdict] | Verdict, statements: Mapping[str, str] | None = None) -> Shown:
    """A row a claim: the mark and its words, the claim (its statement where given), the figure, the reason."""
    listed = list(verdicts) if isinstance(verdicts, Iterable) else [verdicts]
    said = statements or {}
    cell = "padding:3px 10px;text-align:left;vertical-align:top"
    body, lines = "", []
    for verdict in listed:
        mark, tone = VERDICT_MARKS[verdict.verdict], _TONES[verdict.verdict]
        claim = said.get(verdict.claim_id, verdict.claim_id)
        figure = _verdict_figure(verdict)
        badge = f'<strong style="color:{tone}">{mark}</strong> {escape(verdict.verdict)}'
        texts = "".join(f'<td style="{cell}">{escape(text)}</td>' for text in (claim, figure, verdict.reason))
        body += f'<tr><td style="{cell};white-space:nowrap">{badge}</td>{texts}</tr>'
        lines.append(f"{mark} {verdict.verdict}: {claim}" + "".join(f"; {t}" for t in (figure, verdict.reason) if t))
    head = "".join(f'<th scope="col" style="{cell}">{name}</th>' for name in ("verdict", "claim", "figure", "reason"))
    table = f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return Shown(table, "\n".join(lines))


def _sentence(score: Score) -> str:
    guess, unit = score.prediction, score.prediction.unit
    said = range_text(guess.low, guess.high, unit)
    was = format_quantity(score.figure.value, unit)
    who = "You said" if guess.source == "learner" else "The default said"
    if score.hit:
        return f"✓ {who} {said}, it was {was}: inside, {score.off_by:.2g} × from the middle"
    return f"✗ {who} {said}, it was {was}: off by {score.off_by:.2g} ×"


def _calibration(calibration: Mapping[str, Any]) -> str:
    hits, total = calibration["hits"], calibration["total"]
    if not total:
        return "No bet of your own is scored yet; only those count here."
    return (
        f"So far {hits} of {total} ranges held the answer ({hits / total:.0%}); 80% is what such ranges should reach."
    )


def _picture(score: Score) -> str:
    """The range as a bar and the figure as a diamond, on a scale of factors where all are above zero."""
    guess, value = score.prediction, score.figure.value
    low, high = min(guess.low, value), max(guess.high, value)
    log = low > 0
    turn = math.log10 if log else float
    left, width = turn(low), (turn(high) - turn(low)) or 1.0

    def x(number: float) -> float:
        return _EDGE + (turn(number) - left) / width * (_WIDTH - 2 * _EDGE)

    def label(number: float, y: int, anchor: str, weight: str = "normal") -> str:
        text = escape(format_quantity(number, guess.unit))
        style = f'text-anchor="{anchor}" font-size="11" font-weight="{weight}" fill="currentColor"'
        return f'<text x="{x(number):.1f}" y="{y}" {style}>{text}</text>'

    at = x(value)
    alt = escape(_sentence(score), quote=True)
    return (
        f'<svg width="{_WIDTH:.0f}" height="56" viewBox="0 0 {_WIDTH:.0f} 56" role="img" aria-label="{alt}">'
        f'<line x1="0" x2="{_WIDTH:.0f}" y1="28" y2="28" stroke="currentColor" stroke-opacity=".25"/>'
        f'<rect x="{x(guess.low):.1f}" y="22" width="{max(2.0, x(guess.high) - x(guess.low)):.1f}" height="12" rx="3" '
        f'fill="#56B4E9" fill-opacity=".55" stroke="#0072B2"/>'
        f'<path d="M{at:.1f} 19l7 9l-7 9l-7 -9z" fill="#D55E00" stroke="#ffffff"/>'
        f"{label(value, 13, 'middle', 'bold')}{label(guess.low, 50, 'middle')}{label(guess.high, 50, 'middle')}</svg>"
    )


def _verdict_figure(verdict: Verdict) -> str:
    unit, low, high = verdict.unit, verdict.low, verdict.high
    if verdict.figure is None:
        return ""
    spread = ""
    if low is not None and high is not None and low < high:
        spread = f" ({range_text(low, high, unit)})"
    return f"{format_quantity(verdict.figure, unit)}{spread}"
