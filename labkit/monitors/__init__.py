"""Monitors: what breaks a training run without stopping it, told with its evidence."""

from labkit.monitors.alert import Alert
from labkit.monitors.coverage import CoverageLedger
from labkit.monitors.cusum import Cusum, average_run_length
from labkit.monitors.divergence import DivergenceMonitor
from labkit.monitors.maxima import expected_maximum, expected_normal_maximum
from labkit.monitors.replicas import ReplicaMonitor
from labkit.monitors.scoring import Outcome, Score, share_interval
from labkit.monitors.straggler import StragglerMonitor, durations_s
from labkit.monitors.thresholds import Thresholds, fix_threshold

__all__ = [
    "Alert",
    "CoverageLedger",
    "Cusum",
    "DivergenceMonitor",
    "Outcome",
    "ReplicaMonitor",
    "Score",
    "StragglerMonitor",
    "Thresholds",
    "average_run_length",
    "durations_s",
    "expected_maximum",
    "expected_normal_maximum",
    "fix_threshold",
    "share_interval",
]
