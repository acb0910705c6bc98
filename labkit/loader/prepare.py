"""What turns bytes into a tensor: the work of a loader's workers."""

from __future__ import annotations

import io
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.errors import DataError, UsageError

__all__ = ["DecodeJpeg", "PixelTokens", "ReadTokens", "Tokenise", "token_array"]

TOKEN = np.dtype("<u2")  # SmolLM2's 49,152 tokens fit into two bytes


@cache
def _tokenizer(folder: str) -> Any:
    """The model's own tokenizer, in Rust, without what transformers puts around it; once a process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not survive the fork of a worker
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


class Tokenise:
    """Text to its first ``num_tokens`` tokens, by the tokenizer of a model folder; what is short is filled with 0."""

    def __init__(self, folder: Path, num_tokens: int) -> None:
        if num_tokens < 1:
            raise UsageError(f"A sample has at least one token; got num_tokens = {num_tokens}.")
        self.folder, self.num_tokens = str(folder), num_tokens

    def __call__(self, text: bytes) -> Tensor:
        ids = _tokenizer(self.folder).encode(text.decode("utf-8", "replace"), add_special_tokens=False).ids
        tokens = torch.zeros(self.num_tokens, dtype=torch.int64)
        tokens[: len(ids)] = torch.tensor(ids[: self.num_tokens])
        return tokens  # (num_tokens,)


class ReadTokens:
    """Bytes that were tokenised before: two a token."""

    def __call__(self, content: bytes) -> Tensor:
        return torch.from_numpy(np.frombuffer(content, dtype=TOKEN).astype(np.int64))  # (num_tokens,)


class DecodeJpeg:
    """A JPEG to pixels in 0 to 1, (3, size, size); DataError where the bytes are no JPEG."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise UsageError(f"A picture is at least one pixel wide; got size = {size}.")
        self.size = size

    def __call__(self, content: bytes) -> Tensor:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
                scaled = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{len(content):,} bytes are no JPEG ({error}). Prepare the pictures again.") from error
        return torch.from_numpy(np.asarray(scaled).copy()).permute(2, 0, 1).float() / 255


def token_array(tokens: Tensor) -> bytes:
    """Tokens as the two bytes each that `ReadTokens` reads. UsageError: one that does not fit."""
    values = tokens.numpy()
    if values.min(initial=0) < 0 or values.max(initial=0) >= 2**16:
        raise UsageError(f"A token must fit into two bytes; got {values.min()} to {values.max()}.")
    return values.astype(TOKEN).tobytes()


class PixelTokens:
    """A JPEG to a start token and the grey of each of size² pixels: a picture as a sequence, for a language model.

    After Chen et al., Generative Pretraining from Pixels, ICML 2020.
    """

    def __init__(self, size: int) -> None:
        self.decode = DecodeJpeg(size)

    def __call__(self, content: bytes) -> Tensor:
        grey = self.decode(content).mean(dim=0)  # (3, size, size) -> (size, size)
        return torch.cat((torch.zeros(1, dtype=torch.int64), 1 + (255 * grey).long().flatten()))  # (size² + 1,)
