"""One owned child process: a notebook server, an inference server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.launch.guarded import Guarded

__all__ = ["OwnedProcess"]


class OwnedProcess(Guarded):
    """One command, owned: ``with OwnedProcess([...], name="…", kind="server") as server: …``

    env is laid over this process's environment. log: a file that its output is appended to (default: a temporary one).
    scratch: folders that are removed also when this process is killed before it could do so itself.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        name: str,
        kind: str,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        log: str | Path | None = None,
        deadline_s: float | None = None,
        grace_s: float = 2.0,
        scratch: Sequence[Path] = (),
    ) -> None:
        child = {
            "argv": [str(part) for part in command],
            "env": {**os.environ, **(env or {})},
            "cwd": str(cwd) if cwd is not None else None,
            "log": str(log) if log is not None else None,
        }
        super().__init__([child], name=name, kind=kind, deadline_s=deadline_s, grace_s=grace_s, scratch=scratch)

    @property
    def log(self) -> Path:
        """Where its output goes; a temporary one is there from its start to its end."""
        return Path(self._children[0]["log"] or os.devnull)

    @property
    def pid(self) -> int:
        """The guard's pid, which is also the id of the process group."""
        return self.guard.pid

    def poll(self) -> int | None:
        """The exit code once it has ended (128 + signal if by a signal), else None."""
        code = self.guard.poll()
        return None if code is None else _as_a_shell_says(code)

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it ends; its exit code. TimeoutError when it goes on."""
        try:
            return _as_a_shell_says(self.guard.wait(timeout=timeout_s))
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout_s} s.") from None

    def log_tail(self, num_lines: int = 20) -> str:
        """The last lines that it printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-num_lines:])


def _as_a_shell_says(code: int) -> int:
    """The guard passes its child's code on; where the guard itself was ended by force, Python has minus the signal."""
    return code if code >= 0 else 128 - code
