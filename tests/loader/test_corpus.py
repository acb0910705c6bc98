"""The corpus is what the packages' records say, or it is refused; pieces are whole lines, pictures their seed's."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from labkit.errors import DataError, MissingPackageError, UsageError
from labkit.loader.corpus import PACKAGES, package_sources
from labkit.loader.pictures import make_jpeg, picture_locations, write_pictures
from labkit.loader.prepare import DecodeJpeg, PixelTokens, Tokenise
from labkit.loader.samples import Samples

SOURCE = b"".join(f"line {number} = {number}\n".encode() for number in range(40))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package of one source file, with its RECORD."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tinylab.py").write_bytes(SOURCE)
    info = tmp_path / "tinylab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinylab\nVersion: 1.0\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(SOURCE).digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"tinylab.py,sha256={digest},{len(SOURCE)}\ntinylab-1.0.dist-info/RECORD,,\n")
    return tmp_path


def test_the_lock_brings_a_corpus() -> None:
    found = package_sources()
    assert found.packages == PACKAGES
    assert len(found.documents) > 100
    assert found.num_bytes > 1_000_000
    assert found.version == package_sources().version
    first = found.documents[0]
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256


def test_pieces_are_whole_lines_one_behind_another(package: Path) -> None:
    found = package_sources(["tinylab"])
    pieces = found.pieces(100)
    texts = [SOURCE[piece.offset : piece.offset + piece.num_bytes] for piece in pieces]
    assert SOURCE.startswith(b"".join(texts))
    assert all(text.endswith(b"\n") and 100 <= len(text) < 100 + 15 for text in texts)
    assert found.pieces(len(SOURCE))[0].num_bytes == len(SOURCE)
    with pytest.raises(DataError, match="the corpus is empty"):
        found.pieces(len(SOURCE) + 1)
    with pytest.raises(UsageError, match="at least one byte"):
        found.pieces(0)


def test_what_is_no_corpus(package: Path) -> None:
    (package / "tinylab.py").write_bytes(SOURCE.replace(b"7", b"8"))
    with pytest.raises(DataError, match="its hash differs"):
        package_sources(["tinylab"])
    (package / "tinylab.py").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        package_sources(["tinylab"])
    (package / "tinylab.py").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        package_sources(["tinylab"])
    (package / "tinylab-1.0.dist-info" / "RECORD").write_text("tinylab-1.0.dist-info/RECORD,,\n")
    with pytest.raises(DataError, match="the corpus is empty"):
        package_sources(["tinylab"])
    with pytest.raises(MissingPackageError, match="no-such-package"):
        package_sources(["no-such-package"])
    with pytest.raises(UsageError, match="at least one package"):
        package_sources([])


def test_tokens_are_the_real_tokenizers(smollm2: Path) -> None:
    from labkit import models

    text = package_sources().documents[5].path.read_bytes()[:2000]
    wanted = models.load_tokenizer(smollm2).encode(text.decode(), add_special_tokens=False)
    tokens = Tokenise(smollm2, 100)(text)
    assert tokens.tolist() == wanted[:100]
    assert Tokenise(smollm2, 5)(b"a").tolist()[1:] == [0, 0, 0, 0]
    with pytest.raises(UsageError, match="at least one token"):
        Tokenise(smollm2, 0)


def test_pictures_are_their_seeds(tmp_path: Path) -> None:
    jpegs = [make_jpeg(index, size=64, seed=1) for index in range(3)]
    assert jpegs == [make_jpeg(index, size=64, seed=1) for index in range(3)]
    assert len({*jpegs, make_jpeg(0, size=64, seed=2)}) == 4
    locations = picture_locations(write_pictures(tmp_path, jpegs, data_version="1"))
    decoded = Samples(locations, DecodeJpeg(32))[1]
    assert decoded.shape == (3, 32, 32)
    assert 0 <= decoded.min() < decoded.max() <= 1
    tokens = Samples(locations, PixelTokens(8))[1]
    assert tokens.shape == (65,)
    assert tokens[0] == 0
    assert 1 <= tokens[1:].min() <= tokens.max() <= 256
    with pytest.raises(DataError, match="are no JPEG"):
        DecodeJpeg(8)(b"no picture")
    with pytest.raises(DataError, match="are no JPEG"):
        DecodeJpeg(8)(jpegs[0][: len(jpegs[0]) // 2])
    with pytest.raises(UsageError, match="at least 16 pixels"):
        make_jpeg(0, size=8, seed=0)
    with pytest.raises(UsageError, match="at least one pixel"):
        DecodeJpeg(0)
