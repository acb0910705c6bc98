"""What is asked of vLLM, for both devices, and what is refused before it starts."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import MissingPackageError, ModelError, UsageError
from labkit.hardware import machine
from labkit.serving.vllm import VLLMServer
from labkit.serving.vllm_command import VLLMOptions, core_list, found_preload, vllm_command
from labkit.serving.vllm_model import checked_max_model_len, checked_model, known_architectures, vllm_folder
from labkit.serving.vllm_process import vllm_device

CPU_NAMES = {"VLLM_CPU_OMP_THREADS_BIND", "LD_PRELOAD", "OMP_NUM_THREADS"}


def options(**changed: Any) -> VLLMOptions:
    plain = {"model": "/m/smol", "served_model_name": "smol", "offline": True, "max_model_len": 2048}
    return VLLMOptions(**(plain | changed))


def built(device: str, cores: tuple[int, ...] = (0, 1), **changed: Any) -> tuple[str, dict[str, str]]:
    argv, env = vllm_command(device, options(**changed), port=8000, cores=cores)
    return " ".join(argv), env


def test_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    argv, env = built("cpu")
    assert argv.startswith(f"{sys.executable} -W ignore::DeprecationWarning -m vllm.entrypoints.openai.api_server")
    assert "--host 127.0.0.1 --port 8000 --model /m/smol --served-model-name smol --dtype bfloat16" in argv
    assert "--max-num-seqs 32 --max-model-len 2048" in argv
    assert f"--enforce-eager --kv-cache-memory-bytes {2**30}" in argv
    assert "gpu" not in argv
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert env["HF_HUB_OFFLINE"] == env["VLLM_NO_USAGE_STATS"] == env["DO_NOT_TRACK"] == env["NO_COLOR"] == "1"
    assert "LD_PRELOAD" not in env
    argv, env = built("cpu", (2, 3, 4, 9), threads=2, enforce_eager=False, kv_cache_bytes=2**25)
    assert "--enforce-eager" not in argv
    assert f"--kv-cache-memory-bytes {2**25}" in argv
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "2-3"
    env = built("cpu", (), threads=3)[1]
    assert (env["VLLM_CPU_OMP_THREADS_BIND"], env["OMP_NUM_THREADS"]) == ("nobind", "3")


def test_on_a_gpu() -> None:
    argv, env = built("cuda", gpu_memory_utilization=0.5)
    assert "--gpu-memory-utilization 0.5" in argv
    assert "--enforce-eager" not in argv
    assert "--kv-cache-memory-bytes" not in argv
    assert not CPU_NAMES & set(env)
    assert not [name for name in env if "CPU" in name]
    argv, env = built("cuda", enforce_eager=True, kv_cache_bytes=2**30, threads=99, preload=(Path("/no/such.so"),))
    assert f"--enforce-eager --gpu-memory-utilization 0.9 --kv-cache-memory-bytes {2**30}" in argv
    assert not CPU_NAMES & set(env)


def test_what_the_caller_adds_comes_last() -> None:
    argv, env = built("cpu", extra_args=("--seed", "1"), env={"VLLM_CPU_OMP_THREADS_BIND": "nobind"}, offline=False)
    assert argv.endswith("--seed 1")
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert "HF_HUB_OFFLINE" not in env


def test_libraries_to_preload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, root = tmp_path / "venv", tmp_path / "root"
    assert found_preload(prefix, root) == ()
    iomp, tcmalloc = prefix / "lib/libiomp5.so", root / "usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4"
    for path in (iomp, tcmalloc):
        path.parent.mkdir(parents=True)
        path.touch()
    expected = (tcmalloc, iomp) if sys.platform == "linux" else ()
    assert found_preload(prefix, root) == expected
    monkeypatch.setenv("LD_PRELOAD", "/mine.so")
    assert built("cpu", preload=(tcmalloc, iomp))[1]["LD_PRELOAD"] == f"{tcmalloc}:{iomp}:/mine.so"
    with pytest.raises(UsageError, match=r"library to preload.*no/such\.so"):
        built("cpu", preload=(Path("/no/such.so"),))


def test_the_device_is_what_this_build_of_vllm_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"vllm-cpu": "0.32.0"}.__getitem__)
    assert vllm_device() == "cpu"

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert vllm_device() == machine().device


def test_lists_of_cores() -> None:
    assert core_list([0]) == "0"
    assert core_list([9, 3, 1, 2, 8]) == "1-3,8-9"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be at least 1; got 0"),
        ({"kv_cache_bytes": 0}, "kv_cache_bytes must be positive"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is a share"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"threads": 3}, "may use 2 cores; got threads=3"),
    ],
)
def test_options_that_cannot_be(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        built("cpu", **changed)


def test_an_inherited_setting_that_would_win_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    with pytest.raises(UsageError, match="would overrule kv_cache_bytes"):
        built("cpu")
    assert built("cpu", env={"VLLM_CPU_KVCACHE_SPACE": "2"})[1]["VLLM_CPU_KVCACHE_SPACE"] == "2"
    built("cuda")


def registry(folder: Path, text: str = '_TEXT_GENERATION_MODELS = {"LlamaForCausalLM": ("llama", "L")}\n') -> Path:
    file = folder / "vllm/model_executor/models/registry.py"
    file.parent.mkdir(parents=True)
    file.write_text(text + '_PREVIOUSLY_SUPPORTED_MODELS = {"MptForCausalLM": "0.28.0"}\nOTHER_MODELS = f()\n')
    return folder / "vllm"


def test_the_real_registry_is_read() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here")
    known = known_architectures(vllm_folder())
    assert {"LlamaForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM"} <= known
    assert "MptForCausalLM" not in known


def test_folders_that_vllm_cannot_serve(tiny: Path, tmp_path: Path) -> None:
    vllm = registry(tmp_path)
    good = checked_model(tiny, vllm=vllm)
    assert (good.name, good.folder, good.max_model_len) == ("tiny", tiny.resolve(), 512)
    config = tiny / "config.json"

    def refused(said: str) -> None:
        with pytest.raises(ModelError, match=said):
            checked_model(tiny, vllm=vllm)

    (tiny / "model.safetensors").write_bytes(b"")
    refused("holds no weights")
    (tiny / "model.safetensors").write_bytes(b"w")
    (tiny / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')
    refused(r"lacks weights that its index names: model-2\.safetensors")
    (tiny / "model.safetensors.index.json").unlink()
    config.write_text('{"architectures": ["MptForCausalLM"]}')
    refused("knows no architecture MptForCausalLM.*knows 1, such as LlamaForCausalLM")
    assert checked_model(tiny, vllm=vllm, any_architecture=True).name == "tiny"
    assert checked_model(tiny, vllm=tmp_path / "another layout").name == "tiny"  # then vLLM itself decides
    config.write_text("{}")
    refused("config.json names none")
    config.write_text('{"architectures": ')
    refused("cannot be read as JSON")
    config.unlink()
    refused("holds no config.json")
    with pytest.raises(ModelError, match="There is no model folder"):
        checked_model(tmp_path / "nowhere", vllm=vllm)
    with pytest.raises(ModelError, match="There is no model folder nowhere"):
        checked_model("./nowhere", vllm=vllm)
    with pytest.raises(ModelError, match="is a file"):
        checked_model(Path(__file__), vllm=vllm)


def test_a_model_id_is_left_to_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = checked_model("HuggingFaceTB/SmolLM2-135M", vllm=tmp_path)
    assert (model.name, model.folder) == ("HuggingFaceTB/SmolLM2-135M", None)
    assert checked_max_model_len(None, model, 2048) == 2048


def test_the_context(tiny: Path, tmp_path: Path) -> None:
    vllm = registry(tmp_path)
    model = checked_model(tiny, vllm=vllm)
    assert checked_max_model_len(None, model, 2048) == checked_max_model_len(512, model, 2048) == 512
    with pytest.raises(UsageError, match="must not pass the 512 tokens that tiny was made for; got 513"):
        checked_max_model_len(513, model, 2048)
    with pytest.raises(UsageError, match="max_model_len must be at least 1"):
        checked_max_model_len(0, model, 2048)
    stretched = {"rope_type": "yarn", "factor": 4.0}
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512, "rope_parameters": stretched}
    (tiny / "config.json").write_text(json.dumps(config))
    assert checked_model(tiny, vllm=vllm).max_model_len == 2048


def test_without_vllm_the_cure_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"vLLM server needs the package vllm.*make setup") as caught:
        VLLMServer(tiny)
    assert caught.value.cure == "make setup"
