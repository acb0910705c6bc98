"""Executes one notebook by papermill, in a process of its own: ``python -m labkit.runner.worker SPEC``.

SPEC is a JSON file: ``path``, ``out``, ``parameters``, ``error`` (a file that says how it failed). The guard above this
process ends it with its kernel, and with everything that the kernel started, wherever they went.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(spec_file: str) -> int:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    spec = json.loads(Path(spec_file).read_text())
    try:
        papermill.execute_notebook(
            _unformatted(spec["path"]),
            _unformatted(spec["out"]),
            parameters=spec["parameters"],
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            cwd=str(Path(spec["path"]).parent),  # as in JupyterLab
            iopub_timeout=60,
            store_widget_state=False,
            start_timeout=120,
        )
    except PapermillExecutionError as error:
        told = {"kind": error.ename, "message": error.evalue, "source": error.source, "traceback": error.traceback}
        _tell(spec, told)
        return 1
    except DeadKernelError:
        _tell(spec, {"kind": "DeadKernel", "message": "the kernel died", "source": "", "traceback": []})
        return 1
    except Exception as error:
        _tell(spec, {"kind": type(error).__name__, "message": str(error), "source": "", "traceback": []})
        return 1
    return 0


def _unformatted(path: str) -> str:
    """papermill fills in {names} in paths; a folder's own braces are meant as they are."""
    return path.replace("{", "{{").replace("}", "}}")


def _tell(spec: dict[str, Any], told: dict[str, Any]) -> None:
    Path(spec["error"]).write_text(json.dumps(told))


if __name__ == "__main__":
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    sys.exit(main(sys.argv[1]))
