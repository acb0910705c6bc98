"""Records: runs, figures, claims and predictions in one file that no crash loses; and durable files."""

from labkit.records.claims import Claim, Rule, Verdict
from labkit.records.diff import Difference, RunDiff
from labkit.records.files import REAL, FileSystem, write_durably
from labkit.records.hygiene import data_version, environment
from labkit.records.predictions import Prediction, Score, calibration
from labkit.records.run import Run
from labkit.records.store import Records

__all__ = [
    "REAL",
    "Claim",
    "Difference",
    "FileSystem",
    "Prediction",
    "Records",
    "Rule",
    "Run",
    "RunDiff",
    "Score",
    "Verdict",
    "calibration",
    "data_version",
    "environment",
    "write_durably",
]
