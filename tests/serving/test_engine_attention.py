"""Decode's attention, compiled and in torch's operations: what the definition says, and nothing beside it is read."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from labkit import models
from labkit.serving.engine import ModelRunner, kernel, run_engine
from labkit.serving.engine.attention import gathered_attention
from labkit.serving.workload import chat_requests

needs_compiler = pytest.mark.skipif(shutil.which(kernel.COMPILER) is None, reason="no C++ compiler here")
SIZES = [(9, 3, 64, 16), (9, 3, 64, 32), (4, 4, 24, 5), (8, 1, 128, 16)]  # heads, of keys, numbers each, block
LENGTHS = (1, 7, 16, 17, 64, 65, 200, 3)


def compiled(num_heads: int, num_kv_heads: int, head_dim: int, block_size: int) -> kernel.Kernel | None:
    return kernel.paged_attention.__wrapped__(
        num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, block_size=block_size
    )


def blocks_of(
    num_heads: int, num_kv_heads: int, head_dim: int, block_size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, cache, tables, lengths, and what is to come, in float64. Blocks lie anywhere; what nobody wrote is NaN."""
    torch.manual_seed(0)
    widest = -(-max(LENGTHS) // block_size)
    tables = torch.randperm(len(LENGTHS) * widest).view(len(LENGTHS), widest)
    cache = torch.full((tables.numel(), 2 * num_kv_heads, block_size, head_dim), torch.nan, dtype=dtype)
    # Scores up to some 50: the largest so far changes from block to block, and exp() without it would overflow.
    q = 3 * torch.randn(len(LENGTHS), num_heads + num_kv_heads, head_dim).to(dtype)[:, :num_heads]
    wanted = torch.empty(q.shape, dtype=torch.float64)
    for s, length in enumerate(LENGTHS):
        k, v = 2 * torch.randn(2, num_kv_heads, length, head_dim).to(dtype)
        for t in range(length):
            cache[tables[s, t // block_size], :, t % block_size] = torch.cat((k[:, t], v[:, t]))
        shared = q[s].double().view(num_kv_heads, -1, head_dim)
        weights = (shared @ k.double().transpose(1, 2) / head_dim**0.5).softmax(-1)
        wanted[s] = (weights @ v.double()).view(num_heads, head_dim)
    return q, cache, tables, torch.tensor(LENGTHS), wanted


@needs_compiler
@pytest.mark.parametrize("sizes", SIZES)
def test_the_kernel_attends_to_a_sequences_own_tokens(sizes: tuple[int, int, int, int]) -> None:
    q, cache, tables, lengths, wanted = blocks_of(*sizes, torch.bfloat16)
    attend = compiled(*sizes)
    assert attend is not None
    whole, last = cache.clone(), lengths - 1
    block, place = tables[range(len(LENGTHS)), last // sizes[3]], last % sizes[3]
    k, v = cache[block, :, place].chunk(2, dim=1)
    cache[block, :, place] = torch.nan  # the new tokens' keys and values: the kernel is to write them
    # Sums are in float32, and rounded once: half a step of bfloat16, and what the sums of 200 are off by.
    torch.testing.assert_close(attend(q, k, v, cache, tables, lengths).double(), wanted, rtol=2**-8 * 1.02, atol=2e-5)
    torch.testing.assert_close(cache, whole, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("sizes", SIZES)
def test_torchs_operations_attend_to_the_same(sizes: tuple[int, int, int, int]) -> None:
    q, cache, tables, lengths, wanted = blocks_of(*sizes, torch.float32)
    decode = gathered_attention(tables, lengths, 2 * sizes[1], sizes[3])
    unused = torch.empty(0)  # the newest keys and values are in the cache
    got = decode(cache.nan_to_num(0.0), q, unused, unused)  # 0 times NaN would be NaN: the cache begins as zeros
    torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_a_kernel_leaves_no_file_and_denormals_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert compiled(*SIZES[0]) is not None
    assert list(tmp_path.iterdir()) == []
    assert (torch.tensor(1e-40) * torch.ones(1)).item() > 0


@pytest.mark.parametrize("missing", ["no-such-compiler", "false"])
def test_without_a_compiler_the_engine_serves_all_the_same(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(kernel, "COMPILER", missing)
    kernel.paged_attention.cache_clear()
    runner = ModelRunner(models.load_transformer(smollm2), num_blocks=64)
    kernel.paged_attention.cache_clear()
    assert runner.cache.kernel is None
    run = run_engine(runner, chat_requests(smollm2, (4, 9)))
    assert [len(answer.tokens) for answer in run.answers] == [4, 9]
