"""Measuring: figures with their kind and spread, timing in turns, timelines, profiles, requests that rest on them."""

from labkit.measure.amdahl import Gain, gain_of_faster_device, gains, predict_gain, speedup
from labkit.measure.capacity import CapacityRequest
from labkit.measure.figures import Figure, Measured, Quoted, Simulated, figure_from_dict
from labkit.measure.flops import count_flops
from labkit.measure.profile import Profile, ProfileRow, profile
from labkit.measure.progress import OnProgress
from labkit.measure.timeline import Recorder, Span, Timeline
from labkit.measure.timing import alternate, compare, difference, noise_floor, repeat
from labkit.measure.training import profile_training
from labkit.measure.training_job import PARTS, TrainingJob, delayed
from labkit.measure.training_profile import DEVICE_PARTS, TrainingProfile

__all__ = [
    "DEVICE_PARTS",
    "PARTS",
    "CapacityRequest",
    "Figure",
    "Gain",
    "Measured",
    "OnProgress",
    "Profile",
    "ProfileRow",
    "Quoted",
    "Recorder",
    "Simulated",
    "Span",
    "Timeline",
    "TrainingJob",
    "TrainingProfile",
    "alternate",
    "compare",
    "count_flops",
    "delayed",
    "difference",
    "figure_from_dict",
    "gain_of_faster_device",
    "gains",
    "noise_floor",
    "predict_gain",
    "profile",
    "profile_training",
    "repeat",
    "speedup",
]
