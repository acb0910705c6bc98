"""GGUF to a Hugging Face folder, by transformers; run as a process of its own: ``python -m labkit.models.convert``.

Dequantising keeps a gigabyte and a slow import out of the learner's kernel, and Ctrl-C there ends it cleanly.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["convert"]


def convert(source: Path, target: Path) -> None:
    """Write the model in ``source`` (GGUF, quantised) as bfloat16 safetensors with its tokenizer into ``target``."""
    _say("loading transformers")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    _say("dequantising the weights")
    # Without dequantize=True transformers 5 keeps the weights packed and refuses to save them.
    packed = GgufConfig(dequantize=True)
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, quantization_config=packed)
    _say("writing the weights")
    model.save_pretrained(target)
    _say("writing the tokenizer")
    AutoTokenizer.from_pretrained(**where).save_pretrained(target)


def _say(stage: str) -> None:
    sys.stdout.write(f"stage: {stage}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
