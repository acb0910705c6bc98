"""Exercises: one source in solutions/, generated for learners, checked in processes of their own, proved in CI.

The dialect of a solution, solutions/NN_name.ipynb (nbgrader's markers, and one tag a cell saying what it is):

``box:NAME`` (markdown, one)
    The task in three sentences under a heading. Metadata ``labkit.task``: ``difficulty`` (1 to 5), ``minutes``,
    ``proves`` (read after "Proves that you can") and ``target`` (numeric); the builder writes them under the heading.
    Where needed ``answer`` (the name that the learner's cell must define; default: the one that the task's last cell
    binds last), ``deadline_s`` (20), ``memory_gib`` (1, above what the packages take) and ``needs`` (a list of
    ``"cuda"``, ``"cores:4"``, ``"ranks:2"`` or a package's name).
``setup`` (code)
    Given code: kept in the exercise, and run before every task that comes after it, always as it stands here. Other
    code cells without a role are kept and never run by a check.
``task:NAME`` (code)
    The solution between ``### BEGIN SOLUTION`` and ``### END SOLUTION``, in a frame with types and shapes that stays.
``picture:NAME`` (code, at most one)
    Ends with a matplotlib figure drawn from the solution; the exercise shows it. ``labkit.alt`` describes it in words.
``check:NAME`` (code, one)
    ``def check(grader, answer):`` which calls ``answer`` through ``grader.call`` and compares by ``grader.equal``,
    ``close``, ``at_most``, ``at_least``, ``true`` and ``raises``; inside ``with grader.forbid("numpy.sort"):`` the
    library's own version fails a call. It sees the given code and the solution by name (its oracle may be the
    solution); the answer sees the given code alone. It tests the stated target. The learner gets one live line.
``wrong:NAME`` (code, at least three)
    A wrong answer that people give, run after the solution and overriding it; metadata ``labkit.hint`` is its own hint.
    A learner whose answer came to the same (outputs, or the failing value at the same place) gets this hint.
``after:NAME`` (markdown)
    Why the solution is so; shown after passing.
``hidden`` (any)
    Left out of the exercise. ``### BEGIN HIDDEN TESTS`` … ``### END HIDDEN TESTS`` leaves out a part of a cell.
other markdown
    Kept: the introduction, and hints in two steps, folded (``<details><summary>Hint 1</summary>``, blank line, text).

A learner's code runs in a fresh process with a deadline, a memory bound (Linux), no input and a temporary folder.
These are bounds against accidents, not a sandbox. A check that cannot run is *not verified*; it never passes.
"""

from __future__ import annotations

from labkit.exercises.build import build
from labkit.exercises.check import CheckReport, TaskResult, check_notebook
from labkit.exercises.diff import diff
from labkit.exercises.grader import Grader
from labkit.exercises.live import Feedback, check
from labkit.exercises.prove import Proof, ProofReport, prove
from labkit.exercises.reading import read
from labkit.exercises.source import Exercise

__all__ = [
    "CheckReport",
    "Exercise",
    "Feedback",
    "Grader",
    "Proof",
    "ProofReport",
    "TaskResult",
    "build",
    "check",
    "check_notebook",
    "diff",
    "prove",
    "read",
]
