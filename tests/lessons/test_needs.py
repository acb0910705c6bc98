"""What a machine cannot show: each need against machines that have it and that lack it."""

from __future__ import annotations

import dataclasses

import pytest

from labkit import hardware, lessons
from labkit.units import GIB

INSTALLED = {"torch": "2.13.0", "vllm": "0.32.0"}


def device(index: int = 0, capability: tuple[int, int] = (8, 9)) -> hardware.Accelerator:
    return hardware.Accelerator(
        index=index, name="L4", memory_bytes=24 * GIB, compute_capability=capability, uuid=f"u{index}", driver="1",
        links=(),
    )  # fmt: skip


def machine(cores: int = 4, memory_gib: float = 16, devices: int = 0) -> hardware.Machine:
    return dataclasses.replace(
        hardware.machine(),
        num_cores=cores,
        memory_bytes=int(memory_gib * GIB),
        accelerators=tuple(device(index) for index in range(devices)),
    )


def lesson(*step_needs: str, **needs: object) -> lessons.LessonInfo:
    return lessons.LessonInfo(
        id="00", title="T", question="Q?", minutes=1, needs=lessons.Needs(**needs),  # type: ignore[arg-type]
        steps=(lessons.Step(id="s", title="S", needs=step_needs),), objectives=("o",), wrong_belief="w",
        signature_picture="p",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("need", "enough", "lacking", "words"),
    [
        ("cuda", machine(devices=1), machine(), "needs an NVIDIA accelerator; none is here"),
        ("cuda:8.9", machine(devices=1), machine(), "needs an NVIDIA accelerator"),
        ("nccl", machine(devices=2), machine(devices=1), "needs two accelerators for NCCL; this machine has 1 acc"),
        ("ranks:4", machine(4), machine(1), "needs 4 ranks; this machine has room for 2 ranks"),
        ("cores:2", machine(2), machine(1), "needs 2 cores; this machine has 1 core"),
        (
            "memory_gib:16",
            machine(memory_gib=15.6),
            machine(memory_gib=8),
            "needs 16 GiB of memory; this machine has 8",
        ),
        ("accelerators:2", machine(devices=2), machine(devices=1), "needs 2 accelerators; this machine has 1"),
    ],
)
def test_what_the_machine_must_have(need: str, enough: hardware.Machine, lacking: hardware.Machine, words: str) -> None:
    assert lessons.missing_here(lesson(need), enough, INSTALLED) == ()
    ((step, reason),) = lessons.missing_here(lesson(need), lacking, INSTALLED)
    assert step == "s"
    assert words in reason


def test_an_older_accelerator() -> None:
    old = dataclasses.replace(machine(), accelerators=(device(capability=(7, 5)),))
    ((_, reason),) = lessons.missing_here(lesson("cuda:8.9"), old, INSTALLED)
    assert reason == "needs compute capability 8.9; the best here is 7.5"


@pytest.mark.parametrize(
    ("need", "package"), [("gloo", "torch"), ("vllm", "vllm"), ("ray", "ray"), ("package:A_b", "a-b")]
)
def test_what_must_be_installed(need: str, package: str) -> None:
    assert lessons.missing_here(lesson(need), machine(), {package: "1"}) == ()
    ((_, reason),) = lessons.missing_here(lesson(need), machine(), {})
    assert "which is not installed" in reason


def test_a_network_is_only_there_when_told() -> None:
    assert lessons.missing_here(lesson("network"), machine(), INSTALLED, network=True) == ()
    assert len(lessons.missing_here(lesson("network"), machine(), INSTALLED)) == 1


def test_the_whole_lesson() -> None:
    wants = lesson(cores=2, memory_gib=8, packages=("torch", "vllm"), accelerator=True)
    assert lessons.missing_here(wants, machine(devices=1), INSTALLED) == ()
    lost = lessons.missing_here(wants, machine(cores=1, memory_gib=4), {"torch": "2"})
    assert [step for step, _ in lost] == ["the whole lesson"] * 4
    assert [reason.split(";")[0] for _, reason in lost] == [
        "needs 2 cores",
        "needs 8 GiB of memory",
        "needs the package vllm, which is not installed",
        "needs 1 accelerator",
    ]
