"""What a lesson says of itself is checked, and every message names the notebook and the key."""

from __future__ import annotations

from typing import Any

import pytest

from labkit import lessons
from labkit.errors import NotebookError, UsageError


def with_labels(lab: Any, **changed: Any) -> Any:
    document = lab.read(lab.lesson)
    labels = {**document["metadata"]["labkit"], **changed}
    document["metadata"]["labkit"] = {key: value for key, value in labels.items() if value is not None}
    lab.write(lab.lesson, document)
    return lab.lesson


def test_a_sound_lesson(lab: Any) -> None:
    info = lessons.lesson_of(lab.lesson)
    assert (info.id, info.minutes, info.signature_picture) == ("00", 30.0, "b")
    assert info.needs == lessons.Needs(cores=1, memory_gib=2, packages=("torch",), accelerator=False)
    assert info.steps == (lessons.Step(id="all-reduce", title="Ranks", needs=("gloo",)),)
    assert lessons.catalogue(lab.root) == (info,)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"title": None, "titel": "x"}, r"labkit.title is missing; 'titel' is there"),
        ({"minutes": "30"}, r"labkit.minutes must be a number; got '30'"),
        ({"minutes": True}, r"labkit.minutes must be a number; got True"),
        ({"minutes": 0}, r"labkit.minutes must be above 0"),
        ({"question": " "}, r"labkit.question is empty"),
        ({"objectives": []}, r"labkit.objectives must be a list of texts"),
        ({"objectives": ["a", 1]}, r"labkit.objectives must be a list of texts"),
        ({"needs": {"core": 2}}, r"labkit.needs has a key that nothing reads: got 'core'.* Did you mean cores\?"),
        ({"needs": {"cores": 1.5}}, r"labkit.needs.cores must be a whole number"),
        ({"needs": {"accelerator": 1}}, r"labkit.needs.accelerator must be true or false"),
        ({"steps": ["fp8"]}, r"labkit.steps\[0\] must be an object"),
        ({"steps": [{"id": "x", "title": "X", "needs": ["glo"]}]}, r"steps\[0\].needs: .*got 'glo'.*mean gloo\?"),
        ({"steps": [{"id": "x", "title": "X", "needs": ["ranks"]}]}, r"'ranks' must be written ranks:N"),
        ({"steps": [{"id": "x", "title": "X", "needs": ["cuda:8"]}]}, r"must be written cuda or cuda:8.9"),
        ({"signature_picture": "z"}, r"signature_picture must be the id of a cell; got 'z'; known: m, a, b, c"),
    ],
)
def test_what_is_wrong_is_named(lab: Any, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(NotebookError, match=words) as caught:
        lessons.lesson_of(with_labels(lab, **changed))
    assert str(caught.value).startswith(str(lab.lesson))


def test_what_is_no_lesson(lab: Any, tmp_path: Any) -> None:
    with pytest.raises(NotebookError, match="does not exist"):
        lessons.lesson_of(tmp_path / "none.ipynb")
    (tmp_path / "torn.ipynb").write_text("{")
    with pytest.raises(NotebookError, match="cannot be read as a notebook"):
        lessons.lesson_of(tmp_path / "torn.ipynb")
    document = lab.read(lab.lesson)
    del document["metadata"]["labkit"]
    lab.write(tmp_path / "plain.ipynb", document)
    with pytest.raises(NotebookError, match=r"no metadata\.labkit"):
        lessons.lesson_of(tmp_path / "plain.ipynb")


def test_a_catalogue_has_one_lesson_an_id(lab: Any) -> None:
    lab.write(lab.root / "notebooks" / "00_twin.ipynb", lab.read(lab.lesson))
    with pytest.raises(NotebookError, match=r"has the id '00', which 00_start_here\.ipynb has too"):
        lessons.catalogue(lab.root)
    (lab.root / "notebooks" / "00_twin.ipynb").rename(lab.root / "notebooks" / "07_other.ipynb")
    with pytest.raises(NotebookError, match=r"must be named 00_NAME\.ipynb"):
        lessons.catalogue(lab.root)


def test_settings() -> None:
    assert lessons.settings("quick", quick=3, full=30) == 3
    assert lessons.settings("full", quick=3, full=30) == 30
    with pytest.raises(UsageError, match=r"profile must be quick or full; got 'ful'; .*Did you mean full\?"):
        lessons.settings("ful", quick=3, full=30)
