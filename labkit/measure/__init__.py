"""Measuring: figures with their kind and spread, timing in turns, timelines, profiles."""

from labkit.measure.figures import Figure, Measured, Quoted, Simulated, figure_from_dict
from labkit.measure.profile import Profile, ProfileRow, profile
from labkit.measure.progress import OnProgress
from labkit.measure.timeline import Recorder, Span, Timeline
from labkit.measure.timing import alternate, compare, difference, noise_floor, repeat

__all__ = [
    "Figure",
    "Measured",
    "OnProgress",
    "Profile",
    "ProfileRow",
    "Quoted",
    "Recorder",
    "Simulated",
    "Span",
    "Timeline",
    "alternate",
    "compare",
    "difference",
    "figure_from_dict",
    "noise_floor",
    "profile",
    "repeat",
]
