"""``make sweep``: vLLM's flags, thread binding and preload on this machine's CPU, each against the lab's engine.

Every configuration is started anew in every round, and measured in turns with the lab's engine, so that a machine that
drifts moves both. The ratios go to vllm_sweep.csv, best at 32 sequences first; serving.py states the
best settings by hand. About half an hour on two cores.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labkit import models, serving
from labkit.launch import processes
from labkit.serving import engine
from labkit.serving.vllm_command import core_list, found_preload
from labkit.serving.vllm_process import allowed_cores

from .serving import NEW_TOKENS, SETTLE_S, requests, runner

__all__ = ["configurations", "main"]

TABLE = Path(__file__).parent / "vllm_sweep.csv"
BATCHES = (1, 32)
ROUNDS, PAIRS = 2, 3
Configuration = dict[str, Any]


def configurations(cores: Sequence[int], preload: Sequence[Path]) -> list[Configuration]:
    """One change at a time around the best one without a preload, named as the columns of the table."""
    every, threads = core_list(cores), len(cores)
    best: Configuration = {"compiled": True, "bind": every, "prefix_caching": True, "preload": ""}
    changes: list[Configuration] = [
        {},
        {"compiled": False},
        {"prefix_caching": False},
        {"bind": "auto"},
        {"bind": f"nobind, {threads} threads"},
        {"compiled": False, "bind": "auto"},
    ]
    if preload:
        changes.append({"preload": " ".join(path.name for path in preload)})
    return [best | change for change in changes]


def server_of(configuration: Configuration, preload: Sequence[Path]) -> serving.VLLMServer:
    """The server that a configuration asks for; what it leaves out is as ``VLLMServer`` has it."""
    bind, env = configuration["bind"], {}
    if bind == "auto":  # vLLM's own choice, which keeps a core free
        env = {"VLLM_CPU_OMP_THREADS_BIND": "auto"}
    elif bind.startswith("nobind"):
        env = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": bind.split()[1]}
    return serving.VLLMServer(
        models.smollm2(),
        max_num_seqs=max(BATCHES),
        enforce_eager=not configuration["compiled"],
        preload=tuple(preload) if configuration["preload"] else (),
        extra_args=() if configuration["prefix_caching"] else ("--no-enable-prefix-caching",),
        env=env,
    )


def ratios(server: serving.VLLMServer) -> dict[int, list[tuple[float, float]]]:
    """(vLLM's tokens/s, ours) in turns, by batch."""
    found: dict[int, list[tuple[float, float]]] = {}
    for batch in BATCHES:
        asked = requests(batch)
        serving.run_load(server.endpoint, asked, concurrency=batch)  # warms both up
        engine.run_engine(runner(), asked)
        pairs = []
        for _ in range(PAIRS):
            theirs = serving.run_load(server.endpoint, asked, concurrency=batch).tokens_per_s
            time.sleep(SETTLE_S)
            pairs.append((theirs, engine.run_engine(runner(), asked).tokens_per_s))
        found[batch] = pairs
    return found


def main() -> int:
    if processes():
        print("Something of the lab runs already (`labkit ps`); a sweep wants the machine for itself.", file=sys.stderr)
        return 1
    cores, preload = allowed_cores(), found_preload(Path(sys.prefix))
    if not preload:
        print("No library to preload is installed (Debian: libtcmalloc-minimal4), so none is in the sweep.")
    asked = configurations(cores, preload)
    pairs: list[dict[int, list[tuple[float, float]]]] = [{batch: [] for batch in BATCHES} for _ in asked]
    startups: list[list[float]] = [[] for _ in asked]
    for number in range(ROUNDS):
        for index, configuration in enumerate(asked):
            with server_of(configuration, preload) as server:
                startups[index].append(server.startup.duration_s)
                for batch, taken in ratios(server).items():
                    pairs[index][batch] += taken
            print(
                f"round {number + 1}: {configuration}: {row(configuration, pairs[index], startups[index])}", flush=True
            )
    rows = [row(*each) for each in zip(asked, pairs, startups, strict=True)]
    rows.sort(key=lambda each: -float(each["vllm_over_ours_32"]))
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(f"{len(rows)} configurations of {NEW_TOKENS} new tokens in {TABLE}")
    return 0


def row(
    configuration: Configuration, pairs: dict[int, list[tuple[float, float]]], startups: list[float]
) -> dict[str, str]:
    """A row of the table: medians over all turns."""
    words = {name: {True: "yes", False: "no"}.get(value, value) for name, value in configuration.items()}
    for batch, taken in pairs.items():
        words[f"tokens_per_s_{batch}"] = f"{np.median([theirs for theirs, _ in taken]):.0f}"
    for batch, taken in pairs.items():
        words[f"vllm_over_ours_{batch}"] = f"{np.median([theirs / ours for theirs, ours in taken]):.2f}"
    return words | {"turns": str(len(pairs[BATCHES[0]])), "startup_s": f"{np.median(startups):.0f}"}


if __name__ == "__main__":
    sys.exit(main())
