"""The lab's engine against vLLM, continuous against naive, and the client's own lag, on the real model.

Everything that is compared runs in turns within one run. vLLM has the best settings of vllm_sweep.csv.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from labkit import models, serving
from labkit.hardware import model_dtype
from labkit.measure import Measured, alternate
from labkit.serving import engine
from labkit.serving.engine.packed import linear
from labkit.serving.vllm_command import found_preload

__all__ = [
    "client_lag",
    "inter_token_against_vllm",
    "naive_over_continuous",
    "recording",
    "ttft_against_vllm",
    "vllm_over_engine_1",
    "vllm_over_engine_32",
]

ROUNDS = 9  # the machine's memory is as fast as its neighbours leave it: many short turns rather than few
NEW_TOKENS = 64
SHORT = ("short", "short, again", "short, once more", "short, a fourth time", "short, a fifth time")
SETTLE_S = 2.5  # vLLM's worker polls for a second after its last request, on a core that ours needs


@functools.cache
def runner() -> engine.ModelRunner:
    # Blocks of 32: what they hold comes from memory in longer pieces than with 16, and little of them stays empty.
    return engine.ModelRunner(models.load_transformer(models.smollm2()), num_blocks=512, block_size=32)


def requests(num_requests: int, new_tokens: int = NEW_TOKENS) -> tuple[serving.Request, ...]:
    """The same for both engines. No two prompts are alike, so no prefix is served from a cache."""
    shared = serving.chat_requests(models.smollm2(), (new_tokens,) * num_requests)
    return tuple(
        serving.Request(prompt=(1000 + i, *request.prompt), max_tokens=new_tokens) for i, request in enumerate(shared)
    )


@contextlib.contextmanager
def vllm(threads: int | None = None) -> Iterator[serving.VLLMServer]:
    preload = found_preload(Path(sys.prefix))
    with serving.VLLMServer(
        models.smollm2(), max_num_seqs=32, enforce_eager=False, threads=threads, preload=preload
    ) as server:
        serving.run_load(server.endpoint, requests(32), concurrency=32)  # warms up
        yield server


def linear_layers_s(batch: int) -> float:
    """Seconds of one step's linear layers alone: what no engine on these weights can undercut."""
    transformer = runner().transformer
    config, dtype = transformer.config, transformer.embed_tokens.weight.dtype
    x = torch.randn(batch, config.hidden_size, dtype=dtype)
    wide = torch.randn(batch, config.intermediate_size, dtype=dtype)

    def step() -> None:
        with torch.inference_mode():
            for block in transformer.layers:
                for weight in (block.qkv, block.o, block.gate_up):
                    linear(x, weight)
                linear(wide, block.down)
            transformer.lm_head(x)

    return float(np.median(alternate({"linear layers": step}, rounds=20)["linear layers"]))


def vllm_over_engine(batch: int) -> Measured:
    asked = requests(batch)
    ratios, ours, theirs = [], [], []
    with vllm() as server:
        engine.run_engine(runner(), asked)
        for number in range(ROUNDS):
            pair = {}
            for name in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                if name == "ours":
                    time.sleep(SETTLE_S)
                    pair[name] = engine.run_engine(runner(), asked).tokens_per_s
                else:
                    pair[name] = serving.run_load(server.endpoint, asked, concurrency=batch).tokens_per_s
            ours.append(pair["ours"])
            theirs.append(pair["theirs"])
            ratios.append(pair["theirs"] / pair["ours"])
    bound = batch / linear_layers_s(batch)
    print(
        f"         {batch} at once: ours {np.median(ours):.0f} tokens/s, vLLM {np.median(theirs):.0f}, "
        f"the linear layers alone {bound:.0f}; {model_dtype('cpu')}, "
        f"our kernels {'compiled' if runner().cache.kernels else 'in torch'}",
        flush=True,
    )
    return Measured.from_samples(f"vLLM ÷ ours at {batch}", ratios, "×")


def vllm_over_engine_1() -> Measured:
    """vLLM's tokens/s ÷ ours, one sequence at a time."""
    return vllm_over_engine(1)


def vllm_over_engine_32() -> Measured:
    """vLLM's tokens/s ÷ ours, 32 sequences at once."""
    return vllm_over_engine(32)


def naive_over_continuous() -> Measured:
    """Naive's tokens/s ÷ continuous batching's, 32 requests in 32 slots."""
    asked = requests(32, 16)  # naive takes half a minute a round with twice as many

    def serve(policy: str) -> object:
        return engine.run_engine(runner(), asked, policy=policy)

    times = alternate({policy: lambda p=policy: serve(p) for policy in ("naive", "continuous")}, rounds=3, warmup=1)
    ratios = [c / n for n, c in zip(times["naive"], times["continuous"], strict=True)]
    return Measured.from_samples("naive ÷ continuous", ratios, "×")


def recording() -> Measured:
    """What recording every step as an event adds to a run of the engine, as a share of it."""
    asked = requests(8, 32)

    def serve(record: bool) -> object:
        return engine.run_engine(runner(), asked, record=record)

    times = alternate({"with": lambda: serve(True), "without": lambda: serve(False)}, rounds=15)
    shares = [a / b - 1 for a, b in zip(times["with"], times["without"], strict=True)]
    return Measured.from_samples("recording", shares, "")


@functools.cache
def measured_loads() -> dict[str, tuple[serving.LoadResult, serving.Metrics]]:
    """Loads on the real vLLM, and what its own counters say of each: 50 short requests a second for six seconds, five
    times, and prompts of 512 tokens, four at a time.

    vLLM computes on one core: a client that shares its cores is as late as the system lets it be.
    """
    arrivals = serving.poisson_arrivals(50, 300, seed=0)
    short = serving.with_arrivals(requests(300, 8), arrivals)
    draw = np.random.default_rng(0)
    long = tuple(
        serving.Request(prompt=tuple(draw.integers(1000, 40_000, 512).tolist()), max_tokens=8) for _ in range(24)
    )
    loads = {}
    with vllm(threads=1) as server:
        for name, asked, concurrency in (*((name, short, None) for name in SHORT), ("long", long, 4)):
            before = server.metrics()
            load = serving.run_load(server.endpoint, asked, concurrency=concurrency)
            loads[name] = load, server.metrics() - before
    return loads


def client_lag() -> Measured:
    """The client's own lag at 50 requests/s: how late it sends, 99th percentile of each load, seconds."""
    loads = [measured_loads()[name][0] for name in SHORT]
    return Measured.from_samples("client lag, P99", [load.percentile("lag_s", 99) for load in loads], "s")


def ttft_against_vllm() -> Measured:
    """The client's mean time to first token against the mean of vLLM's own histogram, prompts of 512 tokens.

    vLLM's clock starts when a request reaches its engine and stops when the token leaves it. So the client's lag before
    sending is left out, and HTTP's few milliseconds are in the difference: most of it where prompts are short.
    """
    differences = {}
    for name, (load, counted) in measured_loads().items():
        ours = float((load.ttft_s - load.lag_s).mean())
        theirs = counted.histogram("time_to_first_token_seconds").mean
        differences[name] = abs(ours / theirs - 1)
        print(f"         prompts, {name}: client {1e3 * ours:.1f} ms, vLLM {1e3 * theirs:.1f} ms", flush=True)
    return Measured.from_samples("TTFT, client against vLLM", [differences["long"]], "")


def inter_token_against_vllm() -> Measured:
    """The same for the time between two tokens, at 50 requests/s."""
    load, counted = measured_loads()[SHORT[0]]
    theirs = counted.histogram("inter_token_latency_seconds").mean
    return Measured.from_samples(
        "inter-token, client against vLLM", [abs(float(load.inter_token_s.mean()) / theirs - 1)], ""
    )
