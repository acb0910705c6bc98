"""``make bench``: the figures that have a target and belong to no test, because a machine's speed decides them.

Each bench returns Measured figures; a ratio is taken within one run. The table says which target each meets here;
the exit code is 1 when one does not. ``make bench ARGS='setup'`` runs only the benches whose name holds the word.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from labkit.measure import Measured

from . import (
    checkpoints,
    data_parallel,
    fabric,
    launching,
    panels,
    pipelines,
    planning,
    profiles,
    serving,
    setup,
    sharding,
    spot,
)
from . import input as feeding

__all__ = ["BENCHES", "main"]

# name, what it measures, the largest value that meets the target
Bench = tuple[str, Callable[[], Measured], float]
BENCHES: tuple[Bench, ...] = (
    ("setup: fresh clone to JupyterLab answering", setup.fresh_clone_to_lab, 90.0),
    ("setup: size of the environment", setup.environment_bytes, 3.6e9),
    ("setup: what a second `make setup` adds", setup.second_setup, 3.0),
    ("profile: a known delay in each part, furthest from the one set", profiles.injected_delay_off, 0.10),
    ("profile: a step with the stopwatch ÷ without", profiles.stopwatch_over_plain, 1.05),
    ("input: bandwidth recovered from a throttled storage, furthest from the one set", feeding.bandwidth_off, 0.10),
    ("input: reading beside as much computing ÷ one after the other", feeding.overlap, 0.65),
    ("input: a known delay in ingest, prep and fetch, furthest from the one set", feeding.injected_delay_off, 0.10),
    ("input: wait foretold for one worker, furthest from the one measured", feeding.stall_off, 0.10),
    ("input: a repaired loader's step ÷ that on synthetic data", feeding.repaired_shortfall, 1 / 0.95),
    ("launch: a no-op on 2 ranks", launching.no_op, 3.0),
    ("fabric: bandwidth recovered from a throttled link, furthest from the one set", fabric.bandwidth_off, 0.10),
    ("fabric: an all-reduce beside as much computing ÷ one after the other", fabric.overlap, 0.65),
    ("data parallel: ring by hand ÷ gloo, 64 MB on 4 ranks", data_parallel.ring_over_gloo, 1 / 0.7),
    ("data parallel: step by hand ÷ torch's DDP", data_parallel.ddp_over_torch, 1 / 0.9),
    ("checkpoint: asynchronous ÷ synchronous stall", checkpoints.async_over_sync, 0.10),
    ("checkpoint: asynchronous ones at the best cadence, share of the time", checkpoints.overhead, 0.035),
    ("spot: 10,000 jobs over a month, on one core", spot.ten_thousand_jobs, 10.0),
    ("spot: gap closed at tight deadlines, greedy's ÷ ours, generated traces", spot.greedy_over_planned, 0.5),
    *([("spot: the same on a public trace", spot.greedy_over_planned_bamboo, 0.5)] if spot.BAMBOO.exists() else []),
    ("spot: missed deadlines of 10,000 jobs, the chain fitted to a wrong market", spot.missed_deadlines, 0.0),
    ("spot: the timeline redraws, at the slowest extreme", spot.redraw, 0.100),
    ("widgets: a panel redraws after a slider moved", panels.redraw, 0.100),
    ("sharding: the memory bar redraws, at the slowest extreme", sharding.memory_bar_redraw, 0.100),
    ("planner: every plan for 70B on 1,024 devices", planning.every_plan, 1.0),
    ("planner: its panel redraws, at the slowest extreme", planning.panel_redraw, 0.100),
    ("widgets: the schedule explorer redraws at its extremes", pipelines.explorer_redraw, 0.100),
    ("serving: vLLM ÷ our engine, tokens/s at 1", serving.vllm_over_engine_1, 1.0),
    ("serving: vLLM ÷ our engine, tokens/s at 32", serving.vllm_over_engine_32, 1.0),
    ("serving: naive ÷ continuous at 32", serving.naive_over_continuous, 0.2),
    ("serving: what recording the events adds", serving.recording, 0.02),
    ("serving: the client's lag at 50 requests/s, P99", serving.client_lag, 0.005),
    ("serving: TTFT at prompts of 512 tokens, client against vLLM's histogram", serving.ttft_against_vllm, 0.03),
    ("serving: inter-token, client against vLLM's histogram", serving.inter_token_against_vllm, 0.03),
)


def chosen(word: str) -> Iterator[Bench]:
    return (bench for bench in BENCHES if word in bench[0])


def main(argv: list[str]) -> int:
    missed = 0
    for name, measure, target in chosen(argv[0] if argv else ""):
        figure = measure()
        met = figure.value <= target
        missed += not met
        spread = f"{figure.low:.4g} to {figure.high:.4g}, n={figure.n}"
        verdict = "met" if met else "MISSED"
        print(f"{verdict:>7}  {name}: {figure.value:.4g} {figure.unit} ({spread}); target {target:g}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
