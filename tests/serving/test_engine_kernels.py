"""The engine's compiled kernels, and torch's operations in their place: what the definitions say, nothing beside it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from labkit import models
from labkit.models.transformer import rotary_tables, rotate
from labkit.serving.engine import ModelRunner, kernels, run_engine
from labkit.serving.engine.attention import gathered_attention
from labkit.serving.workload import chat_requests

needs_compiler = pytest.mark.skipif(shutil.which(kernels.COMPILER) is None, reason="no C++ compiler here")
SIZES = [(9, 3, 64, 16), (9, 3, 64, 32), (4, 4, 24, 5), (8, 1, 128, 16)]  # heads, of keys, numbers each, block
LENGTHS = (1, 7, 16, 17, 64, 65, 200, 3)
HALF_STEP = {torch.bfloat16: 2**-8 * 1.02, torch.float32: 2e-6}  # a result's rounding, and a sum's in float32
each_dtype = pytest.mark.parametrize("dtype", HALF_STEP)


def compiled(dtype: torch.dtype, num_heads: int, num_kv_heads: int, head_dim: int, block_size: int) -> kernels.Kernels:
    found = kernels.compile_kernels.__wrapped__(
        dtype=dtype, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, block_size=block_size
    )
    assert found is not None
    return found


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
@each_dtype
@pytest.mark.parametrize("sizes", SIZES)
def test_the_kernel_attends_to_a_sequences_own_tokens(sizes: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    q, cache, tables, lengths, wanted = blocks_of(*sizes, dtype)
    attend = compiled(dtype, *sizes).paged_attention
    whole, last = cache.clone(), lengths - 1
    block, place = tables[range(len(LENGTHS)), last // sizes[3]], last % sizes[3]
    k, v = cache[block, :, place].chunk(2, dim=1)
    cache[block, :, place] = torch.nan  # the new tokens' keys and values: the kernel is to write them
    got = attend(q, k, v, cache, tables, lengths).double()
    torch.testing.assert_close(got, wanted, rtol=HALF_STEP[dtype], atol=2e-5)  # what the sums of 200 are off by
    torch.testing.assert_close(cache, whole, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("sizes", SIZES)
def test_torchs_operations_attend_to_the_same(sizes: tuple[int, int, int, int]) -> None:
    q, cache, tables, lengths, wanted = blocks_of(*sizes, torch.float32)
    decode = gathered_attention(tables, lengths, 2 * sizes[1], sizes[3])
    unused = torch.empty(0)  # the newest keys and values are in the cache
    got = decode(cache.nan_to_num(0.0), q, unused, unused)  # 0 times NaN would be NaN: the cache begins as zeros
    torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-5)


@needs_compiler
@each_dtype
@pytest.mark.parametrize("num_tokens", [1, 7])
def test_the_kernels_norm_is_rms_norm(num_tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (torch.randn(num_tokens, 96) * torch.logspace(-2, 2, num_tokens)[:, None]).to(dtype)
    weight = torch.randn(96).to(dtype)
    wanted = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-2).sqrt() * weight.double()
    got = compiled(dtype, *SIZES[0]).rms_norm(x, weight, 1e-2)  # an eps that counts beside small values
    torch.testing.assert_close(got.double(), wanted, rtol=HALF_STEP[dtype], atol=1e-6)


@needs_compiler
@each_dtype
@pytest.mark.parametrize("num_tokens", [1, 7])
def test_the_kernels_swiglu_is_silu_of_the_gate_times_up(num_tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    gate_up = (30 * torch.randn(num_tokens, 96)).to(dtype)  # exp(-gate) from nothing to beyond what float32 holds
    gate_up[:, 0] = -100
    gate, up = gate_up.double().chunk(2, dim=-1)
    got = compiled(dtype, *SIZES[0]).swiglu(gate_up)
    torch.testing.assert_close(got.double(), torch.nn.functional.silu(gate) * up, rtol=HALF_STEP[dtype], atol=1e-30)


@needs_compiler
@each_dtype
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("positions", [(5,), (0, 1, 77, 2047)])
def test_the_kernel_turns_queries_and_keys_and_leaves_values(
    sizes: tuple[int, int, int, int], positions: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    num_heads, num_kv_heads, head_dim, _ = sizes
    cos, sin = rotary_tables(torch.tensor(positions), head_dim, 10000.0, dtype)
    turned = num_heads + num_kv_heads
    # Two sequences share the positions.
    heads = torch.randn(2, len(positions), turned + num_kv_heads, head_dim).to(dtype)
    wanted = heads.double()
    wanted[:, :, :turned] = rotate(wanted[:, :, :turned], cos.double(), sin.double())
    compiled(dtype, *sizes).rotate(heads, turned, cos, sin)
    torch.testing.assert_close(heads.double(), wanted, rtol=HALF_STEP[dtype], atol=1e-6)


@needs_compiler
def test_kernels_leave_no_file_and_denormals_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compiled(torch.bfloat16, *SIZES[0])
    assert list(tmp_path.iterdir()) == []
    assert (torch.tensor(1e-40) * torch.ones(1)).item() > 0


@pytest.mark.parametrize("missing", ["no-such-compiler", "false"])
def test_without_a_compiler_the_engine_gives_likely_tokens_all_the_same(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(kernels, "COMPILER", missing)
    kernels.compile_kernels.cache_clear()
    runner = ModelRunner(models.load_transformer(smollm2), num_blocks=64)
    kernels.compile_kernels.cache_clear()
    assert runner.cache.kernels is None
    requests = chat_requests(smollm2, (4, 9))
    answers = run_engine(runner, requests).answers
    plain = models.load_transformer(smollm2, dtype=torch.float32)
    for request, answer in zip(requests, answers, strict=True):
        assert len(answer.tokens) == request.max_tokens
        with torch.inference_mode():
            logits = plain(torch.tensor([request.prompt + answer.tokens]))[0, len(request.prompt) - 1 : -1]
        chosen = logits[range(len(answer.tokens)), list(answer.tokens)]
        assert (logits.amax(-1) - chosen).max() <= 0.25  # bfloat16's rounding of logits of some 20, on both
