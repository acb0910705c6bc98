"""JPEGs made by a seeded recipe: no download, the same bytes' worth of work as photographs of their size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labkit.errors import UsageError
from labkit.loader.manifest import ShardFolder, write_shards
from labkit.loader.samples import Location

__all__ = ["JPEG_FILES", "make_jpeg", "picture_locations", "write_pictures"]

JPEG_FILES = "jpeg files"
RECIPE = 1  # counted up when the same seed gives other pictures


def make_jpeg(index: int, *, size: int, seed: int, quality: int = 85) -> bytes:
    """Picture ``index``: noise at four scales, as in a photograph louder the coarser it is. (size, size), in colour."""
    from PIL import Image

    if size < 16:
        raise UsageError(f"A picture is at least 16 pixels wide; got {size}.")
    rng = np.random.default_rng((seed, index, RECIPE))
    pixels = np.zeros((size, size, 3))
    for cells, loudness in ((4, 60.0), (16, 30.0), (size // 8, 15.0), (size // 2, 6.0)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += loudness / 128 * (np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC)) - 128.0)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write_pictures(folder: Path, jpegs: Sequence[bytes], *, data_version: str) -> ShardFolder:
    """A file a picture, as a folder of images is mostly found."""
    contents = {f"{index:06}.jpg": jpeg for index, jpeg in enumerate(jpegs)}
    return write_shards(folder, JPEG_FILES, data_version, contents, dict.fromkeys(contents, 1))


def picture_locations(shards: ShardFolder) -> tuple[Location, ...]:
    """Where each picture of the folder is."""
    return tuple(Location(path=shards.path(one), num_bytes=one.num_bytes) for one in shards.shards)
