"""From a real Jupyter kernel: after a backward, interrupted, and killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from jupyter_client.manager import start_new_kernel

SETUP = """
import subprocess, torch, torch.distributed as dist
from labkit import launch
w = torch.ones(256, 256, requires_grad=True); (w @ w).sum().backward()

def mean(scale):
    w = torch.ones(8, 8, requires_grad=True); (w @ w).sum().backward(); g = w.grad * scale
    dist.all_reduce(g)
    return g.mean().item()

def fail():
    raise ValueError("of this cell")

def spin():
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    while True: pass

def hang():
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    if dist.get_rank() == 0:
        dist.all_reduce(torch.ones(1))
    while True: pass
"""


class Kernel:
    def __init__(self) -> None:
        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def run(self, code: str) -> str:
        said: list[str] = []

        def hook(message: dict[str, dict[str, str]]) -> None:
            said.append(message["content"].get("text", "") + "\n".join(message["content"].get("traceback", "")))

        self.client.execute_interactive(code, timeout=60, output_hook=hook)
        return "".join(said)


@pytest.fixture
def kernel(marked) -> Iterator[Kernel]:
    kernel = Kernel()
    try:
        yield kernel
    finally:
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel(now=True)


def test_it_works_after_a_backward_and_ends_with_an_interrupt_and_with_the_kernel(kernel: Kernel, marked) -> None:
    said = kernel.run(SETUP + "print('got', launch.run(mean, 2.0, ranks=2, backend='gloo').values)")
    assert "got (64.0, 64.0)" in said, said
    said = kernel.run("launch.run(fail, ranks=1, backend=None)")
    assert 'raise ValueError("of this cell")' in said, said
    assert "rank 0 of 1 raised ValueError: of this cell" in said, said

    request = kernel.client.execute("launch.run(spin, ranks=2, backend=None)")
    assert marked.wait(lambda: len(marked.sleepers()) == 2)
    kernel.manager.interrupt_kernel()
    reply = kernel.client.get_shell_msg(timeout=20)
    assert reply["parent_header"]["msg_id"] == request
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert not marked.sleepers()
    assert "left: []" in kernel.run("print('left:', launch.processes())")

    kernel.client.execute("launch.run(hang, ranks=2, backend='gloo')")
    assert marked.wait(lambda: len(marked.sleepers()) == 2)
    kernel.manager.provisioner.process.kill()
    assert marked.gone_within(5), [process.cmdline() for process in marked.living()]
