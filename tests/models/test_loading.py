"""Model folders that cannot be used say why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from labkit import models
from labkit.errors import ModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model as Hugging Face's save_pretrained writes it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_of_any_llama_loads_and_agrees(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    tokens = torch.arange(9)[None]
    ours, theirs = (
        models.load_transformer(folder, dtype=torch.float32),
        LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32),
    )
    with torch.no_grad():
        assert torch.allclose(ours(tokens), theirs(tokens).logits, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in ours.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "LlamaForCausalLM; .* holds GPT2LMHeadModel"),
        ({"architectures": None}, "holds none named"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, "rope_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"hidden_size": 64}, "not those of its config.json"),
        ({"num_hidden_layers": 3}, "not those of its config.json"),
    ],
)
def test_another_architecture_or_a_setting_that_the_transformer_lacks(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    edit(folder, **changes)
    with pytest.raises(ModelError, match=message):
        models.load_transformer(folder)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        models.load_transformer(folder)


def test_torn_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"cannot be read .* Copy the model again"):
        models.load_transformer(folder)


def test_a_config_that_is_missing_torn_or_incomplete(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        models.load_transformer(folder)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(ModelError, match="lacks vocab_size"):
        models.load_transformer(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        models.load_transformer(folder)


def test_neither_a_folder_nor_a_model_that_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="There is no model folder"):
        models.load_transformer(tmp_path / "nowhere")

    def offline(*args: object, **kwargs: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ModelError, match=r"neither a folder here .*no network.*smollm2\(\) needs no network"):
        models.load_transformer("nobody/nothing")


def test_a_model_id_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda model, allow_patterns: str(folder))
    assert models.model_folder("somebody/something") == folder


def test_the_tokenizer_round_trips_and_chats(smollm2: Path) -> None:
    tokenizer = models.load_tokenizer(smollm2)
    assert tokenizer.decode(tokenizer.encode("Batching pays.")) == "Batching pays."
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "<|im_start|>user\nHi<|im_end|>" in chat


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("bare"))
    with pytest.raises(ModelError, match="no tokenizer"):
        models.load_tokenizer(folder.with_name("bare"))
