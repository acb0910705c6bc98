"""The lab's transformer, and the models that it loads."""

from labkit.models.assets import smollm2
from labkit.models.loading import load_tokenizer, load_transformer, model_folder, read_config
from labkit.models.transformer import Attend, Transformer, TransformerConfig, causal_attention

__all__ = [
    "Attend",
    "Transformer",
    "TransformerConfig",
    "causal_attention",
    "load_tokenizer",
    "load_transformer",
    "model_folder",
    "read_config",
    "smollm2",
]
