"""Lessons: what each says of itself, what it needs, and the learner's own copies of them."""

from labkit.lessons.copies import Conflict, WorkReport, reset, start
from labkit.lessons.info import LessonInfo, Step, catalogue, lesson_of
from labkit.lessons.needs import Needs, missing_here
from labkit.lessons.profiles import settings

__all__ = [
    "Conflict",
    "LessonInfo",
    "Needs",
    "Step",
    "WorkReport",
    "catalogue",
    "lesson_of",
    "missing_here",
    "reset",
    "settings",
    "start",
]
