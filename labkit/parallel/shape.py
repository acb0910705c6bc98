"""A model as its sizes: what memory, FLOPs and traffic are counted from, without any weights and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from labkit.errors import UsageError

__all__ = ["SHAPES", "ModelShape", "named_shape"]


class _Config(Protocol):
    """What ``ModelShape.of`` reads of a ``labkit.models.TransformerConfig``."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def num_key_value_heads(self) -> int: ...
    @property
    def tie_word_embeddings(self) -> bool: ...
    @property
    def explicit_head_dim(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of a decoder. The defaults are Llama's ways; GPT's are two MLP matrices, biases, learned positions."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    tied: bool = False  # the head is the embedding
    explicit_head_dim: int | None = None
    num_mlp_matrices: int = 3  # gate, up, down; GPT: 2
    biases: bool = False  # in every linear layer and norm
    num_positions: int = 0  # learned ones

    def __post_init__(self) -> None:
        sizes = (self.num_layers, self.hidden_size, self.intermediate_size, self.num_heads, self.num_kv_heads)
        if min(*sizes, self.vocab_size) < 1:
            raise UsageError(f"Every size of a model must be at least 1; got {self}.")
        if self.num_heads % self.num_kv_heads:
            raise UsageError(f"num_kv_heads must divide num_heads; got {self.num_kv_heads} and {self.num_heads}.")
        if self.explicit_head_dim is None and self.hidden_size % self.num_heads:
            raise UsageError(f"num_heads must divide hidden_size; got {self.num_heads} and {self.hidden_size}.")

    @classmethod
    def of(cls, config: _Config) -> ModelShape:
        """The shape of a ``labkit.models.TransformerConfig``, or of anything with its fields."""
        return cls(
            num_layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            vocab_size=config.vocab_size,
            tied=config.tie_word_embeddings,
            explicit_head_dim=config.explicit_head_dim,
        )

    @property
    def head_dim(self) -> int:
        return self.explicit_head_dim or self.hidden_size // self.num_heads

    @property
    def layer_matrix_params(self) -> int:
        """Weights of one layer's matrices: what does two FLOPs a token each, and what tensor parallelism splits."""
        q_size, kv_size = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = self.hidden_size * (2 * q_size + 2 * kv_size)  # q, o and k, v
        return attention + self.num_mlp_matrices * self.hidden_size * self.intermediate_size

    @property
    def layer_params(self) -> int:
        """Parameters of one layer, its two norms included."""
        norms = 2 * self.hidden_size * (2 if self.biases else 1)
        if not self.biases:
            return self.layer_matrix_params + norms
        into_mlp = (self.num_mlp_matrices - 1) * self.intermediate_size
        biases = (
            (self.num_heads + 2 * self.num_kv_heads) * self.head_dim + self.hidden_size + into_mlp + self.hidden_size
        )
        return self.layer_matrix_params + norms + biases

    @property
    def embedding_params(self) -> int:
        """Parameters of the embedding, of learned positions, and of the head where it has its own."""
        tables = self.vocab_size * (1 if self.tied else 2) + self.num_positions
        return tables * self.hidden_size

    @property
    def num_params(self) -> int:
        """All of them, the last norm included."""
        last_norm = self.hidden_size * (2 if self.biases else 1)
        return self.num_layers * self.layer_params + self.embedding_params + last_norm


def _llama(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, vocab: int) -> ModelShape:
    return ModelShape(
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_heads=heads,
        num_kv_heads=kv_heads,
        vocab_size=vocab,
    )


def _gpt(layers: int, hidden: int, heads: int, vocab: int, positions: int) -> ModelShape:
    return ModelShape(
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_heads=heads,
        num_kv_heads=heads,
        vocab_size=vocab,
        tied=True,
        num_mlp_matrices=2,
        biases=True,
        num_positions=positions,
    )


SHAPES: Mapping[str, ModelShape] = MappingProxyType(
    {
        # labkit.models.TransformerConfig's defaults
        "lab": ModelShape(
            num_layers=12,
            hidden_size=384,
            intermediate_size=1024,
            num_heads=12,
            num_kv_heads=12,
            vocab_size=4096,
            tied=True,
        ),
        # Ben Allal et al. (2025), SmolLM2, and its config.json
        "smollm2-135m": ModelShape(
            num_layers=30,
            hidden_size=576,
            intermediate_size=1536,
            num_heads=9,
            num_kv_heads=3,
            vocab_size=49152,
            tied=True,
        ),
        # Touvron et al. (2023), Llama 2, and the models' config.json
        "llama-2-7b": _llama(32, 4096, 11008, 32, 32, 32000),
        "llama-2-13b": _llama(40, 5120, 13824, 40, 40, 32000),
        "llama-2-70b": _llama(80, 8192, 28672, 64, 8, 32000),
        # Llama team (2024), The Llama 3 herd of models, table 3
        "llama-3-8b": _llama(32, 4096, 14336, 32, 8, 128256),
        "llama-3-70b": _llama(80, 8192, 28672, 64, 8, 128256),
        "llama-3-405b": _llama(126, 16384, 53248, 128, 8, 128256),
        # MosaicML, llm-foundry's scripts/train/benchmarking
        "mpt-1b": _gpt(24, 2048, 16, 50368, 2048),
        "mpt-7b": _gpt(32, 4096, 32, 50368, 2048),
        "mpt-13b": _gpt(40, 5120, 40, 50368, 2048),
        "mpt-30b": _gpt(48, 7168, 56, 50368, 2048),
        "mpt-70b": _gpt(80, 8192, 64, 50368, 2048),
        # Brown et al. (2020), GPT-3, table 2.1; the vocabulary padded as Narayanan et al. (2021) train it
        "gpt-3-175b": _gpt(96, 12288, 96, 51200, 2048),
        # Narayanan et al. (2021), Megatron-LM, table 1
        "megatron-1.7b": _gpt(24, 2304, 24, 51200, 2048),
        "megatron-3.6b": _gpt(30, 3072, 32, 51200, 2048),
        "megatron-7.5b": _gpt(36, 4096, 32, 51200, 2048),
        "megatron-18b": _gpt(40, 6144, 48, 51200, 2048),
        "megatron-39b": _gpt(48, 8192, 64, 51200, 2048),
        "megatron-76b": _gpt(60, 10240, 80, 51200, 2048),
        "megatron-145b": _gpt(80, 12288, 96, 51200, 2048),
        "megatron-310b": _gpt(96, 16384, 128, 51200, 2048),
        "megatron-530b": _gpt(105, 20480, 128, 51200, 2048),
        "megatron-1t": _gpt(128, 25600, 160, 51200, 2048),
    }
)


def named_shape(name: str) -> ModelShape:
    """One of SHAPES. UsageError that names what exists."""
    if name not in SHAPES:
        raise UsageError(f"No model is named {name!r}. There are: {', '.join(SHAPES)}.")
    return SHAPES[name]
