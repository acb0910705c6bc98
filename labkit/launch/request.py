"""What can be refused before any process starts."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from labkit.errors import UsageError
from labkit.launch.ray_address import ADDRESS
from labkit.sizes import need_int
from labkit.units import MIB, format_bytes

__all__ = ["PLACES", "PLAIN_RANK_BYTES", "RANK_BYTES", "checked_backend"]

PLACES = ("local", "ray")
RANK_BYTES = 230 * MIB  # resident memory of one rank that has imported torch and joined a gloo group
PLAIN_RANK_BYTES = 16 * MIB  # the same without torch


def checked_backend(
    *, ranks: int, on: str, backend: str | None, deadline_s: object, env: Mapping[str, str], num_threads: int
) -> str | None:
    """The backend that is meant; elsewhere "auto" stays so. UsageError for what cannot be."""
    from labkit.hardware import machine

    need_int(ranks=ranks, num_threads=num_threads)
    if on not in PLACES and not (isinstance(on, str) and ADDRESS.fullmatch(on)):
        raise UsageError(
            f'on must be a place that is available; got {on!r}. Use "local", this machine, "ray", or the address of a '
            'Ray cluster: "ray://host:10001", or "host:6379" on a node of it.'
        )
    if backend not in ("auto", "gloo", "nccl", None):
        raise UsageError(f'backend must be "auto", "gloo", "nccl" or None; got {backend!r}.')
    if isinstance(deadline_s, bool) or not isinstance(deadline_s, Real) or not float(deadline_s) > 0:
        raise UsageError(f"deadline_s must be a positive number of seconds; got {deadline_s!r}.")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str) or "\0" in name + value or "=" in name:
            raise UsageError(f'env takes texts, such as {{"NAME": "1"}}; got {name!r}: {value!r}.')
    if on != "local":  # what the cluster has is seen there
        return backend
    here = machine()
    num_gpus = len(here.accelerators)
    if backend == "auto":  # nccl refuses two ranks on one GPU; gloo runs them
        backend = here.backend if here.backend != "nccl" or ranks <= num_gpus else "gloo"
    if backend == "nccl" and ranks > num_gpus:
        raise UsageError(f'nccl needs a GPU a rank; got {ranks} ranks, {num_gpus} GPUs. Use backend="gloo".')
    each = PLAIN_RANK_BYTES if backend is None else RANK_BYTES
    if ranks * each > here.memory_bytes:
        raise UsageError(
            f"{ranks} ranks need about {format_bytes(ranks * each)} before they do anything; this machine has "
            f"{format_bytes(here.memory_bytes)}. Use at most {here.memory_bytes // each}."
        )
    return backend
