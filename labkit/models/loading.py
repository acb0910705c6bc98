"""A Hugging Face folder, or a model id where a network exists, as the lab's transformer and its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from labkit.errors import ModelError
from labkit.hardware import model_dtype
from labkit.models.transformer import Transformer, TransformerConfig

__all__ = ["load_tokenizer", "load_transformer", "model_folder", "read_config"]

ARCHITECTURE = "LlamaForCausalLM"


def model_folder(model: str | Path) -> Path:
    """The folder itself, or what a model id names, downloaded. ModelError when it is neither."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(model, Path) or str(model).startswith((".", "/", "~")) or str(model).count("/") != 1:
        raise ModelError(
            f"There is no model folder {folder}. Give a folder with config.json and *.safetensors, "
            "or a model id such as HuggingFaceTB/SmolLM2-135M-Instruct."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors", "*.jinja"]))
    except Exception as error:  # the hub has a dozen kinds: offline, gated, unknown, no such revision
        raise ModelError(
            f"{model} is neither a folder here nor a model that could be downloaded ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0] or 'no reason given'}). labkit.models.smollm2() needs no network."
        ) from error


def read_config(folder: Path) -> TransformerConfig:
    """config.json as the lab's own config; ModelError for another architecture or a setting that it lacks."""
    path = folder / "config.json"
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} holds no config.json, so it is no model folder.") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}). Copy the model again.") from error
    architectures = raw.get("architectures") or []
    if architectures != [ARCHITECTURE]:
        raise ModelError(
            f"The lab's transformer is a {ARCHITECTURE}; {folder} holds {', '.join(architectures) or 'none named'}. "
            "Take a Llama-architecture model, or serve this one with vLLM alone."
        )
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    unknown = {
        "attention_bias": raw.get("attention_bias", False),
        "mlp_bias": raw.get("mlp_bias", False),
        "hidden_act": raw.get("hidden_act", "silu") != "silu" and raw["hidden_act"],
        "rope_type": rope.get("rope_type", rope.get("type", "default")) != "default" and rope,
    }
    if has := {name: value for name, value in unknown.items() if value}:
        raise ModelError(f"{folder} asks for what the lab's transformer does not do: {has}. Serve it with vLLM alone.")
    same = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "max_position_embeddings", "rms_norm_eps",
    )  # fmt: skip
    if missing := [name for name in same if name not in raw]:
        raise ModelError(f"{path} lacks {', '.join(missing)}. Copy the model again.")
    return TransformerConfig(
        **{name: raw[name] for name in same},
        num_key_value_heads=raw.get("num_key_value_heads", raw["num_attention_heads"]),
        rope_theta=float(rope.get("rope_theta", raw.get("rope_theta", 10000.0))),
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        explicit_head_dim=raw.get("head_dim"),
    )


def load_transformer(
    model: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> Transformer:
    """A Hugging Face folder's weights in the lab's transformer, ready to serve. ModelError when they do not fit.

    dtype: None takes `hardware.model_dtype`'s, bfloat16 or float32.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = model_folder(model)
    wanted = dtype or getattr(torch, model_dtype(torch.device(device).type))
    config = read_config(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no weights: no *.safetensors beside its config.json. Copy the model again.")
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            tensors.update(load_file(file, device=str(device)))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"The weights in {file} cannot be read ({error}). Copy the model again.") from error
    with torch.device("meta"):  # no memory, no random numbers: the file's tensors become the parameters
        transformer = Transformer(config)
    state = {name.removeprefix("model."): tensor.to(wanted) for name, tensor in tensors.items()}
    if config.tie_word_embeddings and "embed_tokens.weight" in state:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    try:
        transformer.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ModelError(f"The weights in {folder} are not those of its config.json. {error}") from error
    if config.tie_word_embeddings:
        transformer.lm_head.weight = transformer.embed_tokens.weight
    return transformer.eval().requires_grad_(False)


def load_tokenizer(model: str | Path) -> Any:
    """The model's own tokenizer, by transformers: encode, decode, apply_chat_template."""
    from transformers import AutoTokenizer

    folder = model_folder(model)
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no tokenizer that transformers can read: {error}") from error
