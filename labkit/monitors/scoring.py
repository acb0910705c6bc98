"""How good a monitor is: what it found, how late, and how often it cried without a fault."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import UsageError
from labkit.measure import Measured

__all__ = ["Outcome", "Score", "share_interval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one run: the steps of its fault (None: healthy), of the alert that named it, and of a false one (None: no)."""

    fault_step: int | None
    found_step: int | None
    false_step: int | None = None

    @property
    def delay_steps(self) -> int | None:
        """Steps from the fault to its alert; 0: in the same step."""
        return None if self.fault_step is None or self.found_step is None else self.found_step - self.fault_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Over several runs of one fault, or of none."""

    name: str
    outcomes: tuple[Outcome, ...]

    @property
    def num_faults(self) -> int:
        return sum(one.fault_step is not None for one in self.outcomes)

    @property
    def num_found(self) -> int:
        return sum(one.delay_steps is not None for one in self.outcomes)

    @property
    def num_false(self) -> int:
        """Runs in which something was alerted that was not there."""
        return sum(one.false_step is not None for one in self.outcomes)

    @property
    def delays_steps(self) -> tuple[int, ...]:
        return tuple(one.delay_steps for one in self.outcomes if one.delay_steps is not None)

    def recall(self, machine: str = "") -> Measured:
        """Faults found ÷ faults, with the exact interval."""
        return share_interval(f"recall, {self.name}", self.num_found, self.num_faults, machine=machine)

    def precision(self) -> float:
        """Runs with a true alert ÷ runs with any. Of as many alerts as there were, no interval is claimed."""
        alerted = self.num_found + self.num_false
        if not alerted:
            raise UsageError(f"{self.name}: nothing was alerted, so there is no precision.")
        return self.num_found / alerted

    def false_alarms(self, machine: str = "") -> Measured:
        """Runs with a false alarm ÷ runs, with the exact interval."""
        return share_interval(f"false alarms, {self.name}", self.num_false, len(self.outcomes), machine=machine)

    def delay(self, machine: str = "") -> Measured:
        """Steps from the fault to its alert. UsageError where none was found."""
        if not self.delays_steps:
            raise UsageError(f"{self.name}: none of {self.num_faults} faults was found, so there is no delay.")
        return Measured.from_samples(f"delay, {self.name}", self.delays_steps, "steps", machine=machine)


def share_interval(name: str, count: int, n: int, *, machine: str = "", coverage: float = 0.95) -> Measured:
    """count of n as a figure with the interval of Clopper and Pearson (1934), which never covers less than it says."""
    if not 0 <= count <= n or n < 1:
        raise UsageError(f"A share is a count of at least one trial; got {count} of {n}.")
    from scipy.special import betaincinv

    miss = (1 - coverage) / 2
    low = float(betaincinv(count, n - count + 1, miss)) if count else 0.0
    high = float(betaincinv(count + 1, n - count, 1 - miss)) if count < n else 1.0
    value = count / n
    return Measured(
        name=name, value=value, unit="", low=min(low, value), high=max(high, value), n=n, machine=machine,
        coverage=coverage,
    )  # fmt: skip
