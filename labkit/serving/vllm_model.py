"""Whether vLLM can serve what lies in a folder, said before the half minute that it takes vLLM to say so."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from labkit.errors import MissingPackageError, ModelError, UsageError

__all__ = ["ServedModel", "checked_max_model_len", "checked_model", "known_architectures", "vllm_folder"]

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pt")
MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
REGISTRY = "model_executor/models/registry.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A checked folder, or a Hugging Face model id (folder None, nothing checked; vLLM downloads it).

    max_model_len: the context (tokens) that the model was made for; None when it is not known.
    """

    name: str
    folder: Path | None = None
    max_model_len: int | None = None


def vllm_folder() -> Path:
    """Where vLLM is installed, without importing it (10 s). MissingPackageError when it is not."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        raise MissingPackageError("vllm", needed_for="A vLLM server")
    return Path(spec.origin).parent


@cache
def known_architectures(vllm: Path) -> frozenset[str]:
    """The architectures in the registry of that vLLM; empty when its source is not as expected.

    The registry is read, not imported: its dictionaries ``_…_MODELS`` have the architectures as keys.
    """
    try:
        tree = ast.parse((vllm / REGISTRY).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return frozenset()
    known: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.endswith("_MODELS") and not name.startswith(("_PREVIOUSLY", "_OOT")):
                known |= {str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)}
    return frozenset(known)


def checked_model(model: str | Path, *, vllm: Path, any_architecture: bool = False) -> ServedModel:
    """The model, with what its config.json says. ModelError when vLLM could not serve it.

    A string that is no folder here and looks like one (``org/name``) is a Hugging Face model id.
    any_architecture: vLLM is told how to run it (``--model-impl``), so the registry does not decide.
    """
    folder = Path(model).expanduser()
    if not folder.exists():
        if isinstance(model, str) and MODEL_ID.fullmatch(model):
            return ServedModel(name=model)
        raise ModelError(
            f"There is no model folder {folder}. Give a folder with config.json and weights, or a model id."
        )
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file. Give the folder that holds config.json and the weights.")
    config = _config(folder)
    architectures = config.get("architectures") or []
    known = known_architectures(vllm)
    if known and not any_architecture and not known & set(architectures):
        raise ModelError(
            f"vLLM knows no architecture {' or '.join(architectures) or '(config.json names none)'}, which {folder} "
            f"holds; it knows {len(known)}, such as LlamaForCausalLM. Transformers' own code runs others: "
            'extra_args=("--model-impl", "transformers").'
        )
    _check_weights(folder)
    folder = folder.resolve()
    return ServedModel(name=folder.name, folder=folder, max_model_len=_context(config))


def checked_max_model_len(asked: int | None, model: ServedModel, default: int) -> int:
    """The context to serve: what was asked for, else the default or the model's own where that is less."""
    own = model.max_model_len
    if asked is None:
        return min(default, own or default)
    if asked < 1:
        raise UsageError(f"max_model_len must be at least 1; got {asked}.")
    if own is not None and asked > own:
        raise UsageError(f"max_model_len must not pass the {own} tokens that {model.name} was made for; got {asked}.")
    return asked


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} holds no config.json, so it is no model folder.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}). Copy the model again.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} holds no JSON object. Copy the model again.")
    return config


def _check_weights(folder: Path) -> None:
    if not any(file.stat().st_size for pattern in WEIGHTS for file in folder.glob(pattern)):
        raise ModelError(f"{folder} holds no weights: no {', '.join(WEIGHTS)}. Copy the model again.")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} cannot be read ({error}). Copy the model again.") from error
        if missing := sorted(shard for shard in shards if not (folder / str(shard)).exists()):
            raise ModelError(
                f"{folder} lacks weights that its index names: {', '.join(missing)}. Copy the model again."
            )


def _context(config: Mapping[str, Any]) -> int | None:
    """Positions that the model was made for, with a stretched rotary embedding (``factor``) counted in."""
    text = config.get("text_config") or config
    positions = text.get("max_position_embeddings") or text.get("n_positions")
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if not isinstance(positions, int) or not isinstance(rope, dict):
        return None
    factor = rope.get("factor", 1.0) if rope.get("rope_type", rope.get("type", "default")) != "default" else 1.0
    return int(positions * max(1.0, factor)) if isinstance(factor, int | float) else positions
