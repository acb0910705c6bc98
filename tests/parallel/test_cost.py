"""The cost model against published tables: ZeRO's bytes, Megatron's days, llm-foundry's MFU, a DGX's all-reduce."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.parallel.cost import (
    fit_alpha_beta,
    kv_bytes_per_token,
    mfu,
    pipeline_bubble,
    ring_all_reduce_bytes,
    state_bytes,
    training_days,
    transformer_flops,
)


@pytest.mark.parametrize(("stage", "published_gb"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zeros_figure_one(stage: int, published_gb: float) -> None:
    assert state_bytes(7.5e9, 64, stage) / 1e9 == pytest.approx(published_gb, rel=0.015)  # printed with one decimal


def test_fp32_gradients_are_what_exceeds_16_bytes() -> None:
    assert [state_bytes(1, 4, stage, bytes_per_param=18) for stage in range(4)] == [18, 6 + 12 / 4, 2 + 16 / 4, 18 / 4]


@given(st.integers(0, 3), st.floats(16, 24))
def test_one_device_holds_everything_at_any_stage(stage: int, bytes_per_param: float) -> None:
    assert math.isclose(state_bytes(1e9, 1, stage, bytes_per_param), 1e9 * bytes_per_param)


GPT_175B = {"num_layers": 96, "hidden_size": 12288, "vocab_size": 51200, "seq_len": 2048}
GPT_530B = {"num_layers": 105, "hidden_size": 20480, "vocab_size": 51200, "seq_len": 2048}


# Narayanan et al. (2021), table 2: first its own parallelism, then ZeRO-3
@pytest.mark.parametrize(
    ("shape", "batch_size", "num_devices", "tflops_per_s", "published_days"),
    [
        (GPT_175B, 1536, 384, 153, 84),
        (GPT_175B, 1536, 768, 149, 43),
        (GPT_175B, 1536, 1536, 141, 23),
        (GPT_530B, 2240, 560, 171, 156),
        (GPT_530B, 2240, 1120, 167, 80),
        (GPT_530B, 2240, 2240, 159, 42),
        (GPT_175B, 1536, 384, 144, 90),
        (GPT_175B, 1536, 768, 88, 74),
        (GPT_175B, 1536, 1536, 44, 74),
        (GPT_530B, 2560, 640, 138, 169),
        (GPT_530B, 2240, 1120, 98, 137),
        (GPT_530B, 2240, 2240, 48, 140),
    ],
)
def test_megatrons_training_days(
    shape: dict[str, int], batch_size: int, num_devices: int, tflops_per_s: float, published_days: float
) -> None:
    days = training_days(300e9, num_devices, tflops_per_s * 1e12, batch_size, **shape)
    assert days == pytest.approx(published_days, rel=0.012)


def test_an_iterations_flops_are_its_matrices_four_times_over() -> None:
    b, s, n, h, v = 3, 64, 2, 32, 100
    a_layer = 2 * b * s * (12 * h * h) + 2 * 2 * b * s * s * h  # 12h² weights; scores and their product with the values
    forward, head = n * a_layer, 2 * b * s * h * v
    # The head is not recomputed: its forward and backward are three times, the layers' with recomputation four
    assert math.isclose(transformer_flops(b, s, n, h, v), 4 * forward + 3 * head)


MPT_SHAPES = {  # (hidden size, layers)
    "125m": (768, 12),
    "350m": (1024, 24),
    "760m": (1536, 24),
    "1b": (2048, 24),
    "3b": (2560, 32),
    "7b": (4096, 32),
    "13b": (5120, 40),
    "30b": (7168, 48),
    "70b": (8192, 64),
}


def test_every_row_of_llm_foundrys_mfu_table(reference: Path) -> None:
    with (reference / "llm_foundry_mfu" / "a100_80gb.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 61
    for row in rows:
        hidden_size, num_layers = MPT_SHAPES[row["Model"]]
        tokens_per_s = float(row["Throughput (T/s)"]) / float(row["# GPUs"])
        found = mfu(float(row["NumParams"]), num_layers, hidden_size, int(row["SeqLen (T)"]), tokens_per_s, 312e12)
        assert 100 * found == pytest.approx(float(row["MFU"]), rel=0.011), row


def test_the_bubble_of_one_and_more_chunks() -> None:
    assert [round(pipeline_bubble(8, 64, chunks), 5) for chunks in (1, 2, 4)] == [0.10938, 0.05469, 0.02734]
    assert pipeline_bubble(1, 4) == 0


def test_kv_bytes_of_known_models() -> None:
    assert kv_bytes_per_token(40, 40, 128) == 819_200 == 800 * 1024  # Llama-2-13B, and OPT-13B as vLLM's paper has it
    assert kv_bytes_per_token(80, 8, 128) == 320 * 1024  # Llama-3-70B: 8 KV heads for 64


@given(st.floats(0, 1e12), st.integers(1, 4096))
def test_a_ring_sends_less_than_twice_the_tensor(num_bytes: float, world_size: int) -> None:
    assert 0 <= ring_all_reduce_bytes(num_bytes, world_size) <= 2 * num_bytes
    assert ring_all_reduce_bytes(num_bytes, 1) == 0
    assert ring_all_reduce_bytes(num_bytes, 4) == 1.5 * num_bytes


def all_reduces(reference: Path, num_workers: int, devices_per_node: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of at least 8 MB and their median times."""
    with (reference / "vidur_profiles" / "network" / "a100_dgx" / "all_reduce.csv").open(newline="") as file:
        rows = [
            (float(row["size"]), float(row["time_stats.all_reduce.median"]) * 1e-3)
            for row in csv.DictReader(file)
            if (int(row["num_workers"]), int(row["devices_per_node"])) == (num_workers, devices_per_node)
        ]
    sizes, times = np.array([row for row in rows if row[0] >= 8e6]).T
    return sizes, times


def misfit(sizes: np.ndarray, times: np.ndarray) -> float:
    alpha_s, beta_s_per_byte = fit_alpha_beta(sizes, times)
    assert alpha_s >= 0
    return float(np.median(np.abs((alpha_s + beta_s_per_byte * sizes) / times - 1)))


@pytest.mark.parametrize("num_workers", [2, 4, 8])
def test_one_nodes_all_reduces_are_a_line(reference: Path, num_workers: int) -> None:
    assert misfit(*all_reduces(reference, num_workers, num_workers)) <= 0.05


def test_two_and_more_nodes_share_their_links_and_are_no_line(reference: Path) -> None:
    """Where ranks of one node share its links to the others, time is no straight line of size: the model's limit."""
    assert misfit(*all_reduces(reference, 4, 2)) > 0.25
    assert misfit(*all_reduces(reference, 16, 8)) > 0.05


@given(st.floats(1e-7, 1e-2), st.floats(1e-12, 1e-7))
def test_alpha_and_beta_come_back(alpha_s: float, beta_s_per_byte: float) -> None:
    sizes = np.array([1e2, 1e4, 1e6, 1e8])
    found = fit_alpha_beta(sizes, alpha_s + beta_s_per_byte * sizes)
    assert found == pytest.approx((alpha_s, beta_s_per_byte), rel=1e-6)


def test_neither_part_is_below_nothing() -> None:
    assert fit_alpha_beta([1e3, 1e6], [1.0, 0.5])[1] == 0
    assert fit_alpha_beta([1e6, 2e6], [1.0, 4.0])[0] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: state_bytes(1e9, 8, 4), "stage must be 0, 1, 2 or 3"),
        (lambda: state_bytes(1e9, 8, 1, bytes_per_param=12), "at least 16"),
        (lambda: state_bytes(0, 8, 1), "num_params must be finite and above 0"),
        (lambda: state_bytes(1e9, 0, 1), "world_size must be a whole number"),
        (lambda: transformer_flops(8, 2048, 12, 0, 100), "hidden_size must be a whole number"),
        (lambda: training_days(1e9, 8, math.nan, 8, 2048, 12, 768, 100), "flops_per_s_per_device must be finite"),
        (lambda: training_days(1e9, 8, 1e12, 0, 2048, 12, 768, 100), "batch_size must be a whole number"),
        (lambda: mfu(1e9, 12, 768, 2048, 1e3, 0), "peak_flops_per_s must be finite and above 0"),
        (lambda: pipeline_bubble(4, 0), "num_microbatches must be a whole number"),
        (lambda: ring_all_reduce_bytes(-1, 4), "num_bytes must be finite and at least 0"),
        (lambda: kv_bytes_per_token(12, 3, 0), "head_dim must be a whole number"),
        (lambda: fit_alpha_beta([1e6], [1.0, 2.0]), "2 times for 1 sizes"),
        (lambda: fit_alpha_beta([1e6, 1e6], [1.0, 1.0]), "at least two sizes; got 1"),
        (lambda: fit_alpha_beta([1e6, 2e6], [0.0, 1.0]), "times above 0 s"),
    ],
)
def test_what_cannot_be_costed(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
