"""Kernels that labkit starts have threads that sleep while they wait, unless the user chose otherwise."""

from __future__ import annotations

from labkit.launch import thread_waiting


def test_threads_sleep_unless_the_user_chose() -> None:
    assert thread_waiting({}) == {"OMP_WAIT_POLICY": "passive"}
    assert thread_waiting({"OMP_WAIT_POLICY": "active"}) == {"OMP_WAIT_POLICY": "active"}
