"""Claims: a statement, a rule fixed before the measurement, and the verdict of this machine."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from labkit.errors import UsageError
from labkit.measure import Figure
from labkit.units import format_quantity

__all__ = ["Claim", "Rule", "Verdict", "VerdictName", "judge"]

VerdictName = Literal["holds", "does not hold here", "not measurable here"]

_KINDS = ("measured", "simulated", "quoted")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RULE = re.compile(
    rf"(?:(?P<least>{_NUMBER})\s*(?P<above><=?)\s*)?figure(?:\s*(?P<sign><=|<|>=|>|==)\s*(?P<bound>{_NUMBER}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which figures satisfy a claim: an interval of numbers, each end open or closed."""

    low: float = float("-inf")
    high: float = float("inf")
    low_open: bool = False
    high_open: bool = False

    @classmethod
    def parse(cls, text: str) -> Rule:
        """``figure >= 4``, ``figure < 2.5e9``, ``0.8 <= figure <= 1.25`` or ``figure == 3``; nothing else is a rule."""
        match = _RULE.fullmatch(text.strip())
        two_sided = match and match["least"] is not None
        if not match or not (two_sided or match["sign"]) or (two_sided and match["sign"] not in ("<", "<=")):
            raise UsageError(
                f"A rule reads `figure >= 4`, `figure < 2.5e9`, `0.8 <= figure <= 1.25` or `figure == 3`; got {text!r}."
            )
        bound = float(match["bound"])
        if not math.isfinite(bound) or (two_sided and not math.isfinite(float(match["least"]))):
            raise UsageError(f"A rule's limits are finite; got {text!r}.")
        if two_sided:
            least = float(match["least"])
            if least > bound or (least == bound and "<" in (match["above"], match["sign"])):
                raise UsageError(f"No figure can satisfy {text!r}: its lower end is not below its upper end.")
            return cls(low=least, low_open=match["above"] == "<", high=bound, high_open=match["sign"] == "<")
        if match["sign"] == "==":
            return cls(low=bound, high=bound)
        if match["sign"] in ("<", "<="):
            return cls(high=bound, high_open=match["sign"] == "<")
        return cls(low=bound, low_open=match["sign"] == ">")

    def above_low(self, value: float) -> bool:
        return value > self.low or (value == self.low and not self.low_open)

    def below_high(self, value: float) -> bool:
        return value < self.high or (value == self.high and not self.high_open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A statement that people in the field repeat, and how it is decided here.

    id: begins with the lesson's number; quantity: what the figure is; decided_by: the kinds of figure that may decide.
    """

    id: str
    statement: str
    rule: str
    quantity: str
    unit: str = ""
    notebook: str = ""
    decided_by: tuple[str, ...] = ("measured",)

    def __post_init__(self) -> None:
        Rule.parse(self.rule)
        if not (self.id and self.statement and self.quantity):
            raise UsageError(
                "A claim needs an id, a statement and a quantity; "
                f"got {self.id!r}, {self.statement!r}, {self.quantity!r}."
            )
        if not self.decided_by or set(self.decided_by) - set(_KINDS):  # a bare text falls apart into letters, and fails
            raise UsageError(f"decided_by is a tuple of figure kinds out of {_KINDS}; got {self.decided_by!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What this machine says of a claim, with the figure that decided it, or the reason why none did."""

    claim_id: str
    verdict: VerdictName
    figure: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    reason: str = ""


def judge(claim_id: str, rule_text: str, figure: Figure) -> Verdict:
    """The whole interval must satisfy the rule for it to hold, the whole must violate it for it not to: a figure whose
    noise reaches across the limit decides nothing."""
    rule = Rule.parse(rule_text)
    ends = figure.to_dict()  # a quoted figure has no interval, a simulated one may have none
    low = figure.value if ends.get("low") is None else float(ends["low"])
    high = figure.value if ends.get("high") is None else float(ends["high"])
    told = format_quantity(figure.value, figure.unit)
    verdict: VerdictName
    if rule.above_low(low) and rule.below_high(high):
        verdict, reason = "holds", f"{told}: {rule_text}"
    elif not rule.above_low(high) or not rule.below_high(low):
        verdict, reason = "does not hold here", f"{told}, and the rule is {rule_text}"
    else:
        verdict = "not measurable here"
        spread = f"{format_quantity(low, figure.unit)} to {format_quantity(high, figure.unit)}"
        reason = (
            f"the interval {spread} reaches across the rule's limit ({rule_text}): repeat more often or more quietly"
        )
    return Verdict(
        claim_id=claim_id, verdict=verdict, figure=figure.value, low=low, high=high, unit=figure.unit, reason=reason
    )
