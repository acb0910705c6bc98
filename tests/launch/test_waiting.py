"""Kernels that labkit starts have threads that do not spin for long, unless the user chose otherwise."""

from __future__ import annotations

import pytest

from labkit.launch import thread_waiting


def test_threads_sleep_soon() -> None:
    assert 0 < int(thread_waiting({})["GOMP_SPINCOUNT"]) < 300_000


@pytest.mark.parametrize("chosen", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_the_user_chose_stays(chosen: str) -> None:
    assert thread_waiting({chosen: "1"}) == {}
