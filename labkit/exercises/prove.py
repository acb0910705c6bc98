"""The four proofs of an exercise: the solution passes, the stub fails, each wrong answer fails and gets its own hint,
and the generated file is current."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.exercises.build import draw, is_current
from labkit.exercises.generate import generate
from labkit.exercises.judging import Cells, hint_for, judge, solved, unmet_need, wrong_answer
from labkit.exercises.process import Checker
from labkit.exercises.reading import cells_of, read
from labkit.exercises.source import Exercise, Task

__all__ = ["MIN_WRONG_ANSWERS", "Proof", "ProofReport", "prove"]

MIN_WRONG_ANSWERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One statement about one task (``task`` is empty for the file); ``proof`` solution, stub, wrong or current.

    ``status`` is proved, refuted or not verified (this machine lacks what the task needs; ``message`` says what).
    """

    proof: str
    task: str
    status: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofReport:
    """Every proof of one solution notebook."""

    solution: Path
    proofs: tuple[Proof, ...]

    @property
    def ok(self) -> bool:
        """Nothing was refuted. What could not be verified here is listed in ``not_verified``."""
        return not self.failures

    @property
    def failures(self) -> tuple[Proof, ...]:
        """What was refuted."""
        return tuple(proof for proof in self.proofs if proof.status == "refuted")

    @property
    def not_verified(self) -> tuple[Proof, ...]:
        """What this machine could not show."""
        return tuple(proof for proof in self.proofs if proof.status == "not verified")


def prove(solution_path: Path | str) -> ProofReport:
    """Prove one solution. NotebookError where it is not a whole one."""
    exercise = read(Path(solution_path))
    stubs = _stubs(exercise)
    proofs: list[Proof] = []
    with Checker() as checker:
        for task in exercise.tasks:
            reason = unmet_need(task)
            if reason:
                proofs.append(Proof(proof="solution", task=task.name, status="not verified", message=reason))
            else:
                proofs += _prove_task(checker, exercise, task, stubs[task.name])
    proofs.append(_prove_current(exercise))
    return ProofReport(solution=exercise.path, proofs=tuple(proofs))


def _prove_task(checker: Checker, exercise: Exercise, task: Task, stub: str) -> list[Proof]:
    def proof(name: str, holds: bool, message: str) -> Proof:
        told = "" if holds else message
        return Proof(proof=name, task=task.name, status="proved" if holds else "refuted", message=told)

    def outcome(cells: Cells) -> dict[str, Any]:
        return judge(checker, exercise, task, cells)

    before = solved(exercise, task)
    solution = outcome(before)
    # Everything before is solved, so that the stub fails for itself.
    stubbed = outcome([*before[:-1], (task.name, stub)])
    wrongs = [(wrong, outcome(wrong_answer(exercise, task, wrong))) for wrong in task.wrong]
    hints = [wrong.hint for wrong in task.wrong]
    proofs = [
        proof("solution", solution["status"] == "passed", f"the solution does not pass: {solution['message']}"),
        proof(
            "stub", stubbed["status"] == "failed", f"the stub must fail; it {stubbed['status']}: {stubbed['message']}"
        ),
        proof(
            "wrong",
            len(hints) >= MIN_WRONG_ANSWERS and len(set(hints)) == len(hints),
            f"a task has at least {MIN_WRONG_ANSWERS} wrong answers, each with a hint of its own; got {len(hints)}",
        ),
    ]
    for wrong, came in wrongs:
        given = hint_for(came, wrongs)
        proofs.append(
            proof(
                "wrong",
                came["status"] == "failed" and given == wrong.hint,
                f"wrong answer {wrong.id} must fail; it {came['status']}: {came['message']}"
                if came["status"] != "failed"
                else f"wrong answer {wrong.id} gets another's hint ({given!r}): add a case before "
                f"which tells them apart. It failed with: {came['message']}",
            )
        )
    return proofs


def _prove_current(exercise: Exercise) -> Proof:
    """The generated file, beside the solutions folder, is what the solution gives; its pictures can be drawn."""
    target = exercise.path.resolve().parent.parent / "exercises" / exercise.path.name
    message = ""
    if not is_current(exercise, target):
        message = f"{target} is stale. Run `labkit exercises build` and commit it."
    else:
        try:
            draw(exercise, [task for task in exercise.tasks if task.picture and not unmet_need(task)])
        except ValueError as error:
            message = str(error)
    return Proof(proof="current", task="", status="refuted" if message else "proved", message=message)


def _stubs(exercise: Exercise) -> dict[str, str]:
    """The source of each task as the learner gets it."""
    notebook = generate(exercise, dict.fromkeys((task.name for task in exercise.tasks), ""))
    cells = cells_of(notebook)
    return {
        task.name: "\n\n".join(cell.source for cell in cells if (cell.role, cell.task) == ("task", task.name))
        for task in exercise.tasks
    }
