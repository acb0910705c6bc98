"""What a lesson says of itself, in its notebook's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from labkit.errors import NotebookError
from labkit.lessons.document import read
from labkit.lessons.names import choices
from labkit.lessons.needs import Needs, check_need

__all__ = ["LessonInfo", "Step", "catalogue", "lesson_of"]

_KINDS: dict[str, type | tuple[type, ...]] = {
    "a text": str,
    "a number": (int, float),
    "a whole number": int,
    "true or false": bool,
    "a list": list,
    "an object": dict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One part of a lesson that not every machine can show; needs: tokens as in `labkit.lessons.needs`."""

    id: str
    title: str
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonInfo:
    """minutes: with the reading, at the full profile; signature_picture: the id of the cell that draws it."""

    id: str
    title: str
    question: str
    minutes: float
    needs: Needs
    steps: tuple[Step, ...]
    objectives: tuple[str, ...]
    wrong_belief: str
    signature_picture: str


def lesson_of(notebook: str | Path) -> LessonInfo:
    """Read and check ``metadata.labkit`` of a lesson, or of a work copy of one. NotebookError says what is wrong."""
    path = Path(notebook)
    document = read(path)
    labels = document["metadata"].get("labkit")
    if not isinstance(labels, dict):
        raise _wrong(path, "has no metadata.labkit, so it is not a lesson of the lab")
    take = _Reader(path, labels, "labkit")
    told = take.get("needs", "an object", {})
    take.only(told, ("cores", "memory_gib", "packages", "accelerator"), "labkit.needs")
    inner = _Reader(path, told, "labkit.needs")
    info = LessonInfo(
        id=take.text("id"),
        title=take.text("title"),
        question=take.text("question"),
        minutes=take.positive("minutes"),
        needs=Needs(
            cores=inner.get("cores", "a whole number", 1),
            memory_gib=inner.get("memory_gib", "a number", 1),
            packages=inner.texts("packages", ()),
            accelerator=inner.get("accelerator", "true or false", False),
        ),
        steps=tuple(_step(path, take, number, step) for number, step in enumerate(take.get("steps", "a list", []))),
        objectives=take.texts("objectives"),
        wrong_belief=take.text("wrong_belief"),
        signature_picture=take.text("signature_picture"),
    )
    ids = [cell.get("id") for cell in document["cells"]]
    if info.signature_picture not in ids:
        known = choices(info.signature_picture, [str(name) for name in ids])
        raise _wrong(path, f"labkit.signature_picture must be the id of a cell; {known}")
    return info


def catalogue(root: str | Path) -> tuple[LessonInfo, ...]:
    """Every lesson of a checkout, in order. NotebookError where two share an id, or a file is not named by its own."""
    found: dict[str, Path] = {}
    lessons = []
    for path in sorted((Path(root) / "notebooks").glob("*.ipynb")):
        info = lesson_of(path)
        if not path.name.startswith(f"{info.id}_"):
            raise _wrong(path, f"must be named {info.id}_NAME.ipynb, for its labkit.id is {info.id!r}")
        if info.id in found:
            raise _wrong(path, f"has the id {info.id!r}, which {found[info.id].name} has too")
        found[info.id] = path
        lessons.append(info)
    return tuple(lessons)


def _step(path: Path, take: _Reader, number: int, step: object) -> Step:
    place = f"labkit.steps[{number}]"
    if not isinstance(step, dict):
        raise _wrong(path, f'{place} must be an object, as in {{"id": "fp8", "title": "…", "needs": ["cuda"]}}')
    take.only(step, ("id", "title", "needs"), place)
    inner = _Reader(path, step, place)
    needs = inner.texts("needs", ())
    for need in needs:
        problem = check_need(need)
        if problem:
            raise _wrong(path, f"{place}.needs: {problem}")
    return Step(id=inner.text("id"), title=inner.text("title"), needs=needs)


class _Reader:
    """Takes typed values out of a JSON object, with errors that name the notebook and the key."""

    def __init__(self, path: Path, values: dict[str, Any], place: str) -> None:
        self.path, self.values, self.place = path, values, place

    def get(self, key: str, kind: str, *default: Any) -> Any:
        if key not in self.values:
            if default:
                return default[0]
            near = get_close_matches(key, list(self.values), n=1)
            meant = f"; {near[0]!r} is there, and not known" if near else ""
            raise _wrong(self.path, f"{self.place}.{key} is missing{meant}")
        value = self.values[key]
        wanted = _KINDS[kind]
        is_flag = isinstance(value, bool) and wanted is not bool  # JSON's true is no number
        if not isinstance(value, wanted) or is_flag:
            raise _wrong(self.path, f"{self.place}.{key} must be {kind}; got {value!r}")
        return value

    def text(self, key: str) -> str:
        value = str(self.get(key, "a text"))
        if not value.strip():
            raise _wrong(self.path, f"{self.place}.{key} is empty")
        return value

    def positive(self, key: str) -> float:
        value = self.get(key, "a number")
        if not value > 0:
            raise _wrong(self.path, f"{self.place}.{key} must be above 0; got {value!r}")
        return float(value)

    def texts(self, key: str, *default: tuple[str, ...]) -> tuple[str, ...]:
        value = self.get(key, "a list", *default)
        if not all(isinstance(item, str) and item.strip() for item in value) or not (value or default):
            raise _wrong(self.path, f"{self.place}.{key} must be a list of texts; got {value!r}")
        return tuple(value)

    def only(self, values: dict[str, Any], known: tuple[str, ...], place: str) -> None:
        for name in values:
            if name not in known:
                raise _wrong(self.path, f"{place} has a key that nothing reads: {choices(name, known)}")


def _wrong(path: Path, what: str) -> NotebookError:
    return NotebookError(f"{path}: {what.rstrip('.')}.", notebook=str(path))
