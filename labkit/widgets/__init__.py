"""Widgets: what a learner turns, predicts and watches. Each also works, still, where no front end runs."""

from labkit.widgets.cadence_explorer import cadence_explorer
from labkit.widgets.controls import Choice, Control, Slider
from labkit.widgets.memory_bar import memory_bar
from labkit.widgets.panel import Panel, Swept
from labkit.widgets.planner_panel import planner_panel
from labkit.widgets.prediction import PredictionForm, predict
from labkit.widgets.progress_bar import Progress, progress
from labkit.widgets.schedule_explorer import schedule_explorer
from labkit.widgets.scores import score_view, verdict_view
from labkit.widgets.spot_timeline import spot_timeline
from labkit.widgets.starvation_explorer import InputFormat, starvation_explorer
from labkit.widgets.timeline import TimelineView

__all__ = [
    "Choice",
    "Control",
    "InputFormat",
    "Panel",
    "PredictionForm",
    "Progress",
    "Slider",
    "Swept",
    "TimelineView",
    "cadence_explorer",
    "memory_bar",
    "planner_panel",
    "predict",
    "progress",
    "schedule_explorer",
    "score_view",
    "spot_timeline",
    "starvation_explorer",
    "verdict_view",
]
