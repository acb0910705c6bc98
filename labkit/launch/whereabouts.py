"""Where ranks are that do not come back, from what faulthandler wrote down when it was asked."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

__all__ = ["whereabouts"]

FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)')
OURS = re.compile(r".*/labkit/launch/[a-z]+\.py")  # wherever labkit lies on the rank's machine
LIBRARIES = tuple({sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def whereabouts(folder: Path, ranks: int) -> str:
    """One line a rank: where it is, and what it printed last."""
    lines = [f"{_place(folder, rank)}; {_last_line(folder, rank)}" for rank in range(ranks)]
    return "\n".join(f"  rank {rank}{_on(folder, rank)}: {line}" for rank, line in enumerate(lines))


def _on(folder: Path, rank: int) -> str:
    node = folder / f"rank-{rank}.node"
    return f" on {node.read_text()}" if node.exists() else ""


def _place(folder: Path, rank: int) -> str:
    if (folder / f"rank-{rank}.value").exists():
        return "done"
    if not (folder / f"rank-{rank}.ready").exists():
        return "still starting, or waiting for the others to join"
    stack = folder / f"rank-{rank}.stack"
    frames = FRAME.findall(stack.read_text(errors="replace")) if stack.exists() else []
    own = [frame for frame in frames if not frame[0].startswith(LIBRARIES) and not OURS.fullmatch(frame[0])]
    if not own:
        return "running, nobody knows where"
    file, line, function = own[0]
    inside = f" (in {frames[0][2]})" if frames[0] != own[0] else ""
    place = f"in {function}, line {line}"
    return place + ("" if "ipykernel" in file else f" of {Path(file).name}") + inside


def _last_line(folder: Path, rank: int) -> str:
    log = folder / f"rank-{rank}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return f"printed last: {lines[-1]}" if lines else "printed nothing"
