"""``labkit drill``: does what must survive a crash survive it, here and now?"""

from __future__ import annotations

import json
import sys
from argparse import Namespace

__all__ = ["drill"]


def drill(options: Namespace) -> int:
    """Kill a training job at random points of its checkpoints; 1 when anything committed was lost or torn."""
    from labkit.checkpoint.drill import kill_drill

    def tell(_fraction: float, text: str) -> None:
        print(f"\r{text}", end="", file=sys.stderr, flush=True)

    shown = tell if sys.stderr.isatty() else None
    done = kill_drill(options.kills, seed=options.seed, on_progress=shown)
    if shown:
        print(file=sys.stderr)
    if options.json:
        print(json.dumps(done.to_dict(), indent=1))
    else:
        where = ", ".join(f"{count} while {name}" for name, count in sorted(done.where.items()))
        print(f"{done.kills} kills ({where}), {done.committed} checkpoints committed: {done.lost} lost, ", end="")
        print(f"{done.torn_restored} torn ones restored, losses {'equal to the bit' if done.bit_exact else 'DIFFER'}.")
    return 0 if done.passed else 1
