"""What feeds a device: a storage's bandwidth, delays found, waits foretold, and how near a repaired loader comes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit import measure, models
from labkit.loader import (
    corpus,
    delays,
    differential,
    feeding,
    gzip_format,
    memmap_format,
    pictures,
    pipeline,
    prepare,
    samples,
    sizing,
    storage,
    tar_format,
)

__all__ = ["bandwidth_off", "injected_delay_off", "overlap", "repaired_shortfall", "stall_off"]

BATCH, EPOCH_STEPS = 8, 4
SPEEDS = {"known": (8e6, 0.002), "near": (10e6, 0.001), "far": (4e6, 0.003)}  # bytes/s, s a request
PUT_IN_S = {"ingest": 0.04, "prep": 0.048, "fetch": 0.064}  # a batch


@cache
def _step() -> Callable[[torch.Tensor], object]:
    """One training step of a small language model, on one thread."""
    torch.set_num_threads(1)
    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 1}
    shape = models.TransformerConfig(vocab_size=512, **sizes, num_attention_heads=4, num_key_value_heads=4)
    model = models.Transformer(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(batch: torch.Tensor) -> float:
        tokens = batch % shape.vocab_size  # (B, T + 1)
        logits = model(tokens[:, :-1])  # (B, T) -> (B, T, vocab_size)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


@contextmanager
def _datasets() -> Iterator[dict[str, Any]]:
    """Raw text, gzip text, a tar of JPEGs and mapped tokens: 32 samples each, an epoch of four batches."""
    tokenise = prepare.Tokenise(models.smollm2(), 65)
    raw = samples.Samples(corpus.package_sources().pieces(8192)[: BATCH * EPOCH_STEPS], tokenise)
    texts = [raw.fetch(index) for index in range(len(raw))]
    jpegs = [pictures.make_jpeg(index, size=448, seed=0) for index in range(len(raw))]
    with tempfile.TemporaryDirectory() as scratch:
        folder, shards = Path(scratch), {"samples_per_shard": 16, "data_version": "bench"}
        zipped = gzip_format.write_gzip(folder / "gzip", texts, **shards)
        tarred = tar_format.write_tar(folder / "tar", jpegs, "jpg", **shards)
        mapped = memmap_format.write_tokens(folder / "tokens", map(tokenise, texts), data_version="bench")
        yield {
            "raw text": raw,
            "gzip text": gzip_format.gzip_stream(zipped, tokenise),
            "tar of JPEGs": tar_format.tar_stream(tarred, "jpg", prepare.PixelTokens(8)),
            "ranges": samples.Samples(memmap_format.token_locations(mapped), prepare.ReadTokens()),
            "mapped": memmap_format.MappedTokens(mapped.folder),
        }


def bandwidth_off() -> measure.Measured:
    """|recovered ÷ set − 1| of a storage's rate by a line through reads of two sizes: the largest of three rates."""
    off = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "bytes"
        path.write_bytes(bytes(40_000_000))
        for rate in (2e6, 20e6, 100e6):
            with storage.ThrottledStorage(rate, 0.002) as remote:
                small, large = round(rate * 0.05), round(rate * 0.25)
                reads = {size: (lambda size=size: remote.read(path, 0, size)) for size in (small, large)}
                times = measure.alternate({str(size): read for size, read in reads.items()}, rounds=5, warmup=1)
            taken_s = np.median(np.array(times[str(large)]) - np.array(times[str(small)]))
            off.append(abs((large - small) / taken_s / rate - 1))
    return measure.Measured(
        name="bandwidth recovered ÷ set", value=max(off), unit="off", low=min(off), high=max(off), n=len(off)
    )


def overlap() -> measure.Measured:
    """Reading beside as much computing ÷ one after the other, in turns: a reader's thread leaves the core alone."""
    import threading
    import time

    torch.set_num_threads(1)
    matrix = torch.randn(400, 400)
    with tempfile.TemporaryDirectory() as scratch, storage.ThrottledStorage(20e6) as remote:
        path = Path(scratch) / "bytes"
        path.write_bytes(bytes(4_000_000))  # 0.2 s

        def compute() -> None:
            until = time.thread_time() + 0.2
            while time.thread_time() < until:
                torch.mm(matrix, matrix)

        def together() -> None:
            reader = threading.Thread(target=remote.read, args=(path,))
            reader.start()
            compute()
            reader.join()

        def in_turn() -> None:
            remote.read(path)
            compute()

        times = measure.alternate({"together": together, "in turn": in_turn}, rounds=9)
    ratios = np.array(times["together"]) / np.array(times["in turn"])
    return measure.Measured.from_samples("overlapped ÷ one after the other", ratios, "×")


def injected_delay_off() -> measure.Measured:
    """|found ÷ put in − 1| of ingest, prep and fetch: the largest."""
    fast_link, late_link = (storage.ThrottledStorage(1e9, late_s) for late_s in (0.0, PUT_IN_S["fetch"] / BATCH))
    with _datasets() as data, fast_link as fast, late_link as late:
        ranges, slow = data["ranges"], delays.DelayedPrepare(prepare.ReadTokens(), PUT_IN_S["prep"] / BATCH)
        slow_ranges = samples.Samples(ranges.locations, slow)
        cases = {
            "clean": (_step(), ranges, ranges.on(fast)),
            "late": (delays.delayed_step(_step(), PUT_IN_S["ingest"]), slow_ranges, slow_ranges.on(late)),
        }
        found: dict[str, list[Any]] = {name: [] for name in cases}
        for _ in range(25):
            for name, (step, *kinds) in cases.items():
                loaders = [feeding.make_loader(kind, BATCH) for kind in kinds]
                found[name].append(differential.stall_differential(step, *loaders, rounds=1, steps=2, warmup=0))
    misses = []
    for part, delay_s in PUT_IN_S.items():
        pairs = zip(found["late"], found["clean"], strict=True)
        came = [getattr(slow, part).value - getattr(clean, part).value for slow, clean in pairs]
        seen = measure.Measured.from_samples(part, came, "s")
        ends = sorted(abs(end / delay_s - 1) for end in (seen.low, seen.value, seen.high))
        off = abs(seen.value / delay_s - 1)
        misses.append(measure.Measured(name=part, value=off, unit="off", low=ends[0], high=ends[-1], n=len(came)))
    return max(misses, key=lambda miss: miss.value)


def stall_off() -> measure.Measured:
    """|foretold ÷ measured − 1| of the wait of a step with one worker, by storage arithmetic from the batches that
    the same worker fetched from a known storage: the largest median of three formats at two other storage speeds."""
    off = []
    with _datasets() as data, ExitStack() as stack:
        links = {where: stack.enter_context(storage.ThrottledStorage(*speed)) for where, speed in SPEEDS.items()}
        for name in ("raw text", "gzip text", "tar of JPEGs"):
            of_one = data[name]
            size, reads = BATCH * of_one.bytes_per_sample, BATCH * of_one.num_reads / of_one.num_samples  # a batch
            fed = feeding.train_from_each(of_one, _step(), links, batch_size=BATCH, passes=8, rounds=12)
            fetch_s = {
                where: sizing.fetch_s(size, reads, bytes_per_s=rate, latency_s=latency_s)
                for where, (rate, latency_s) in SPEEDS.items()
            }
            for where in ("near", "far"):
                ratios = []
                for known, other in zip(fed["known"], fed[where], strict=True):
                    times = {
                        "ingest_s": float(np.mean(known.compute_s)),
                        "prep_s": max(0.0, known.step_s - fetch_s["known"]),
                    }
                    link_s = size / SPEEDS[where][0]
                    told = pipeline.InputPipeline(**times, fetch_s=fetch_s[where], link_s=link_s)
                    ratios.append(told.stall_s(1) / np.mean(other.wait_s))
                off.append(abs(float(np.median(ratios)) - 1))
    return measure.Measured(
        name="wait foretold ÷ measured", value=max(off), unit="off", low=min(off), high=max(off), n=len(off)
    )


def repaired_shortfall() -> measure.Measured:
    """Seconds of a step on mapped tokens ÷ on one batch that is there, in turns within one run."""
    with _datasets() as data, feeding.Feed(feeding.make_loader(data["mapped"], BATCH)) as feed:
        held = feed.next()

        def several(next_batch: Callable[[], torch.Tensor]) -> Callable[[], object]:
            return lambda: [_step()(next_batch()) for _ in range(EPOCH_STEPS)]

        kinds = {"repaired": several(feed.next), "synthetic": several(lambda: held)}
        times = measure.alternate(kinds, rounds=25)
    ratios = np.array(times["repaired"]) / np.array(times["synthetic"])
    return measure.Measured.from_samples("repaired ÷ synthetic, seconds of a step", ratios, "×")
