"""The grader: what it records, what it tells, and that the library's own version is reached nowhere."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labkit.exercises.failure import AnswerFailed
from labkit.exercises.grader import MAX_FAILURES, Grader


def test_outputs_are_recorded_and_the_first_failure_is_kept() -> None:
    calls: list[tuple[int, str]] = []
    grader = Grader(on_call=lambda number, text: calls.append((number, text)))
    for x in range(4):
        grader.equal(grader.call(abs, -x), 0, what="the size")
    assert calls == [(number, f"abs({'-' if x else ''}{x})") for number, x in enumerate(range(4), 1)]
    assert grader.outputs == [0, 1, 2, 3]
    assert grader.failed_at == 2
    assert [got for _, got in grader.trace] == [1, 2, 3]
    assert grader.failure is not None
    assert grader.failure.message == "The size is not right\ninput:  abs(-1)\ngot:    1\nwanted: 0"


def test_every_comparison_can_fail_and_pass() -> None:
    for fails, passes in (
        (lambda g: g.equal([1], [2]), lambda g: g.equal([1], [1])),
        (lambda g: g.close(1.1, 1.0), lambda g: g.close(1 + 1e-9, 1.0)),
        (lambda g: g.at_most(5, 4), lambda g: g.at_most(4, 4)),
        (lambda g: g.at_most(None, 4), lambda g: g.at_most(np.float32(3), 4)),
        (lambda g: g.at_least(3, 4), lambda g: g.at_least(4, 4)),
        (lambda g: g.true([], "it must hold something"), lambda g: g.true([0], "")),
        (lambda g: g.raises(ValueError, int, "3"), lambda g: g.raises(ValueError, int, "x")),
        (lambda g: g.raises(KeyError, int, "x"), lambda g: g.raises(KeyError, {}.__getitem__, "x")),
    ):
        grader = Grader()
        passes(grader)
        assert (grader.failure, grader.num_compared) == (None, 1)
        fails(grader)
        assert grader.failure is not None
        assert grader.failed_at == 2
        assert grader.failure.message


def test_a_check_that_never_stops_failing_is_ended() -> None:
    grader = Grader()

    def check() -> None:
        while True:
            grader.equal(0, 1)

    with pytest.raises(AnswerFailed, match="wanted: 1"):
        check()
    assert len(grader.trace) == MAX_FAILURES


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(2), KeyboardInterrupt()])
def test_what_the_answer_raises_is_its_failure(error: BaseException) -> None:
    def answer() -> None:
        raise error

    with pytest.raises(AnswerFailed, match=type(error).__name__) as caught:
        Grader().call(answer)
    assert caught.value.kind == "raised"


def test_only_a_bare_not_implemented_is_the_stub() -> None:
    def refuse() -> None:
        raise NotImplementedError("no kernel for float16")

    with pytest.raises(AnswerFailed, match="no kernel") as caught:
        Grader().call(refuse)
    assert caught.value.kind == "raised"


def test_forbidden_by_every_path_and_whole_again_afterwards() -> None:
    before = (np.sort, np._core.fromnumeric.sort, json.loads)
    for source in (
        "import numpy\ndef answer(x): return numpy.sort(x)",
        "from numpy import sort as harmless\ndef answer(x): return harmless(x)",
        "def answer(x):\n    from numpy import sort\n    return sort(x)",
        "def answer(x):\n    import sys\n    return sys.modules['numpy._core.fromnumeric'].sort(x)",
        "def answer(x): return sorted(x)",
        "import json\ndef answer(x):\n    try:\n        json.loads('[1]')\n    except BaseException:\n        return 1",
    ):
        namespace: dict = {}
        exec(source, namespace)
        grader = Grader(namespace=namespace)
        with grader.forbid("numpy.sort", "builtins.sorted", "json.loads"):
            assert np.sort([2, 1]).tolist() == [1, 2]  # the check itself may
            with pytest.raises(AnswerFailed, match="may not be called"):
                grader.call(namespace["answer"], [2, 1])
        assert "sorted" not in namespace
    assert (np.sort, np._core.fromnumeric.sort, json.loads) == before
