"""The two sizes that every lesson runs in: ``quick`` proves that it works, ``full`` teaches."""

from __future__ import annotations

from typing import TypeVar

from labkit.errors import UsageError
from labkit.lessons.names import choices

__all__ = ["PROFILES", "check_profile", "settings"]

PROFILES = ("quick", "full")
Settings = TypeVar("Settings")


def settings(profile: str, *, quick: Settings, full: Settings) -> Settings:
    """The settings of the chosen profile: ``settings(profile, quick={"repeats": 3}, full={"repeats": 9})``."""
    check_profile(profile)
    return quick if profile == "quick" else full


def check_profile(profile: str) -> None:
    """UsageError for anything but ``quick`` and ``full``."""
    if profile not in PROFILES:
        raise UsageError(f"profile must be quick or full; {choices(profile, PROFILES)}")
