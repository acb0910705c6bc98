"""Comparing and showing values, with numpy as the oracle."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.exercises.values import alike, canonical, same, shown

NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(NESTED)
def test_a_value_is_the_same_as_itself_and_its_stand_in_is_json(value: object) -> None:
    assert same(value, value)
    kept = json.loads(json.dumps(canonical(value)))
    assert alike(kept, canonical(value))
    assert isinstance(shown(value), str)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(1e-3, 1.0))
def test_tolerances_are_numpys(numbers: list[float], change: float) -> None:
    want = np.array(numbers)
    got = want + change
    for rtol, atol in ((1e-6, 0.0), (0.1, 0.0), (0.0, 0.5), (1e-6, 2.0)):
        assert same(got, want, rtol=rtol, atol=atol) == np.allclose(got, want, rtol=rtol, atol=atol)
        assert same(got.tolist(), want.tolist(), rtol=rtol, atol=atol) == np.allclose(got, want, rtol=rtol, atol=atol)
    assert not alike(canonical(got), canonical(want)) or np.allclose(got, want, rtol=1e-6)
    assert alike(canonical(want * (1 + 1e-12)), canonical(want))


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (None, 0.0), ("1", 1), ([1, 2], [1, 2, 3]), ((1, 2), {1: 2}), (np.zeros(3), np.zeros((3, 1))),
        (np.zeros(2), 0.0),
        ({"a": 1}, {"b": 1}), ([1, [2, 4]], [1, [2, 3]]), (math.nan, 1.0), (1.0, math.nan),
        (np.array(["a"]), np.array(["b"])),
    ],
)  # fmt: skip
def test_what_differs_is_not_the_same_with_any_tolerance(got: object, want: object) -> None:
    assert not same(got, want)
    assert not same(got, want, rtol=0.1)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (np.float32(0.5), 0.5), (np.int64(3), 3), ([1, 2], np.array([1, 2])), (np.array([1, 2]), [1, 2]),
        ((1, 2), [1, 2]),
        (math.nan, math.nan), (np.array([math.nan]), np.array([math.nan])), (2, 2.0),
    ],
)  # fmt: skip
def test_the_same_in_another_container_is_the_same(got: object, want: object) -> None:
    assert same(got, want)
    assert same(got, want, rtol=1e-9)


def test_torch_tensors_are_read_as_numpy() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        assert same(torch.tensor([1, 2], dtype=dtype), [1, 2])
    assert same(torch.tensor(2.0, requires_grad=True), 2.0)
    assert "shape (2, 2)" in shown(torch.zeros(2, 2))


def test_large_arrays_that_differ_late_are_told_apart_and_shown_short() -> None:
    first = np.zeros(10_000)
    second = first.copy()
    second[-1] = 1.0
    assert not alike(canonical(first), canonical(second))
    assert len(shown(first)) < 200
    assert len(shown(np.random.default_rng(0).normal(size=(256, 256, 4)))) < 200
    assert len(shown(list(range(10**6)))) < 200


def test_addresses_do_not_tell_two_answers_apart() -> None:
    class Thing:
        pass

    assert alike(canonical([Thing(), object()]), canonical([Thing(), object()]))
