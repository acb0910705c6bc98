"""The roofline against what is known: its own synthetic points, and the published times of an A100."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.calibrate import Roofline, fit_roofline, matmul_bytes, matmul_flops, published, score_roofline
from labkit.errors import UsageError

A100 = Roofline(peak_flops_per_s=312e12, bandwidth_bytes_per_s=2.039e12)


def test_counts_of_a_matmul() -> None:
    assert matmul_flops(2, 3, 4) == 48
    assert matmul_bytes(2, 3, 4, 2) == 2 * (6 + 12 + 8)


def test_the_knee_divides_memory_from_compute() -> None:
    assert A100.knee_flops_per_byte == pytest.approx(153.02, abs=0.01)
    assert (A100.limit(153), A100.limit(154)) == ("memory", "compute")
    assert A100.attainable(1) == 2.039e12
    assert A100.attainable(1000) == 312e12
    assert A100.time_s(312e12, 1) == 1
    assert A100.time_s(1, 2.039e12) == 1


@settings(max_examples=25, deadline=None)
@given(st.floats(1e10, 1e15), st.floats(1e9, 4e12), st.integers(0, 1000))
def test_a_noisy_synthetic_roofline_is_recovered(peak: float, bandwidth: float, seed: int) -> None:
    truth = Roofline(peak_flops_per_s=peak, bandwidth_bytes_per_s=bandwidth, overhead_s=0.0)
    knee = truth.knee_flops_per_byte
    rng = np.random.default_rng(seed)
    flops = np.full(24, peak * 1e-2)
    num_bytes = flops / (knee * np.geomspace(1 / 30, 30, 24))
    times = [truth.time_s(f, b) * rng.normal(1, 0.02) for f, b in zip(flops, num_bytes, strict=True)]
    found = fit_roofline(flops, num_bytes, times)
    # Noise of 2 % a point leaves about 2 % on each ceiling: five times that is no accident of a seed.
    assert found.peak_flops_per_s == pytest.approx(peak, rel=0.10)
    assert found.bandwidth_bytes_per_s == pytest.approx(bandwidth, rel=0.10)


def test_one_layer_at_several_batches_is_fitted_without_overhead() -> None:
    """Its traffic is nearly constant: with an overhead to find, the flat part could be either."""
    truth = Roofline(peak_flops_per_s=2e12, bandwidth_bytes_per_s=2e10)
    batches = [2**exponent for exponent in range(12)]
    flops = [matmul_flops(batch, 2048, 2048) for batch in batches]
    num_bytes = [matmul_bytes(batch, 2048, 2048, 2) for batch in batches]
    times = [truth.time_s(f, b) for f, b in zip(flops, num_bytes, strict=True)]
    found = fit_roofline(flops, num_bytes, times, overhead=False)
    assert found.overhead_s == 0
    assert found.knee_flops_per_byte == pytest.approx(100, rel=0.02)


def gemms(reference: Path) -> list[tuple[int, str, float, float, float]]:
    """(tokens, layer, FLOPs, bytes, seconds) of Llama-2-7b's GEMMs on one A100, in float16, from Vidur's profile."""
    shapes = {
        "attn_pre_proj": (4096, 3 * 4096),
        "attn_post_proj": (4096, 4096),
        "mlp_up_proj": (4096, 2 * 11008),
        "mlp_down_proj": (11008, 4096),
    }
    points = []
    with (reference / "vidur_profiles/compute/a100/Llama-2-7b/mlp.csv").open() as file:
        for row in csv.DictReader(file):
            if row["num_tensor_parallel_workers"] != "1":
                continue
            tokens = int(row["num_tokens"])
            for layer, (k, n) in shapes.items():
                seconds = float(row[f"time_stats.{layer}.median"]) / 1e3
                points.append((tokens, layer, matmul_flops(tokens, k, n), matmul_bytes(tokens, k, n, 2), seconds))
    return points


def test_the_published_a100_gemms_lie_on_a_roofline_fitted_to_others(reference: Path) -> None:
    """Fitted on every fourth number of tokens, scored on the other three quarters."""
    points = gemms(reference)
    tokens = sorted({point[0] for point in points})
    seen = set(tokens[::4])
    fit = [point for point in points if point[0] in seen]
    held_out = [point for point in points if point[0] not in seen]
    assert len(held_out) > 2 * len(fit) > 100
    roofline = fit_roofline(*(np.array([p[i] for p in fit]) for i in (2, 3, 4)))
    error = score_roofline(roofline, *(np.array([p[i] for p in held_out]) for i in (2, 3, 4)))
    assert error <= 0.05  # 0.044: fixed data and a fixed fit, so the room is for another SciPy alone
    # The ceilings found lie under the published ones, and not far under.
    peak, bandwidth = published("a100-80gb-bf16"), published("a100-80gb-bandwidth")
    assert 0.5 * peak.value <= roofline.peak_flops_per_s <= peak.value
    assert 0.4 * bandwidth.value <= roofline.bandwidth_bytes_per_s <= 1.05 * bandwidth.value
    assert 80 <= roofline.knee_flops_per_byte <= 320
    print(f"held-out error {error:.4f}, {roofline}")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit_roofline([1, 2, 3], [1, 2, 3], [1, 2, 3]), "at least 4 points"),
        (lambda: fit_roofline([1] * 5, [1] * 4, [1] * 5), "5 FLOPs, 4 bytes, 5 times"),
        (lambda: fit_roofline([1] * 4, [1] * 4, [1, 1, 1, 0]), "positive"),
        (lambda: Roofline(peak_flops_per_s=0, bandwidth_bytes_per_s=1), "two positive ceilings"),
        (lambda: published("b200"), "There are: a100-80gb-bandwidth"),
        (lambda: published("x", table=Path("/no/table.csv")), "lab's checkout"),
    ],
)
def test_bad_input(call, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call()


def test_published_figures_name_their_source() -> None:
    figure = published("h100-sxm-bandwidth")
    assert (figure.value, figure.unit, figure.kind) == (3.35e12, "B/s", "quoted")
    assert "NVIDIA" in figure.source
