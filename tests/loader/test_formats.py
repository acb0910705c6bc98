"""Every format gives the same samples, from here and from a throttled storage, or says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from labkit.errors import DataError, UsageError
from labkit.loader.feeding import Feed, make_loader
from labkit.loader.gzip_format import GZIP, gzip_stream, write_gzip
from labkit.loader.manifest import MANIFEST, read_shards
from labkit.loader.memmap_format import MEMMAP, MappedTokens, token_locations, write_tokens
from labkit.loader.prepare import ReadTokens, token_array
from labkit.loader.samples import Location, Samples
from labkit.loader.storage import LOCAL, RemoteStorage, ThrottledStorage
from labkit.loader.streaming_format import streaming_dataset, streaming_loader, write_streaming
from labkit.loader.tar_format import tar_stream, write_tar

TEXTS = [f"sample {index} of the corpus, in ünicode".encode() for index in range(22)]


def first_bytes(text: bytes) -> Tensor:
    return torch.tensor(list(text[:12]))


TOKENS = torch.stack([first_bytes(text) for text in TEXTS])  # (22, 12)


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteStorage]:
    with ThrottledStorage(50e6, 0.0005) as storage:
        yield storage


def test_every_format_gives_the_same_samples(tmp_path: Path, remote: RemoteStorage) -> None:
    (tmp_path / "text").write_bytes(b"".join(TEXTS))
    sizes = [len(text) for text in TEXTS]
    pieces = [
        Location(path=tmp_path / "text", offset=sum(sizes[:number]), num_bytes=size)
        for number, size in enumerate(sizes)
    ]
    zipped = write_gzip(tmp_path / "gzip", TEXTS, samples_per_shard=8, data_version="1")
    tarred = write_tar(tmp_path / "tar", TEXTS, "txt", samples_per_shard=8, data_version="1")
    mapped = write_tokens(tmp_path / "tokens", list(TOKENS), data_version="1")
    chunks = write_streaming(tmp_path / "chunks", list(TOKENS), samples_per_chunk=8, data_version="1")
    raw, ranges = Samples(pieces, first_bytes), Samples(token_locations(mapped), ReadTokens())
    streams = gzip_stream(zipped, first_bytes), tar_stream(tarred, "txt", first_bytes)
    for storage in (LOCAL, remote):
        for samples in (raw.on(storage), ranges.on(storage)):
            assert torch.equal(torch.stack([samples[index] for index in range(len(samples))]), TOKENS)
        for stream in streams:
            assert torch.equal(torch.stack(list(stream.on(storage))), TOKENS)
        streaming = streaming_dataset(chunks, cache=tmp_path / f"cache {type(storage).__name__}", storage=storage)
        assert torch.equal(torch.stack(list(streaming)), TOKENS)
        assert torch.equal(torch.stack(list(streams[0].on(storage).repeated(2))), torch.cat([TOKENS, TOKENS]))
    assert torch.equal(raw.repeated(3)[50], TOKENS[50 % 22])
    kept = MappedTokens(mapped.folder)
    assert torch.equal(torch.stack([kept[index] for index in range(len(kept))]), TOKENS)
    assert [zipped.num_samples, tarred.num_samples, mapped.num_samples, chunks.num_samples] == [22] * 4
    assert mapped.bytes_per_sample == ranges.bytes_per_sample == 24
    assert raw.bytes_per_sample == sum(sizes) / 22
    assert read_shards(zipped.folder, GZIP) == zipped


def test_through_loaders_with_workers(tmp_path: Path, remote: RemoteStorage) -> None:
    zipped = write_gzip(tmp_path / "gzip", TEXTS[:16], samples_per_shard=4, data_version="1")
    chunks = write_streaming(tmp_path / "chunks", list(TOKENS[:16]), samples_per_chunk=4, data_version="1")
    stream = gzip_stream(zipped, first_bytes, storage=remote)
    with Feed(make_loader(stream, 4, num_workers=2)) as feed:
        batches = [feed.next() for _ in range(4)]
        again = [feed.next() for _ in range(4)]
    assert sorted(torch.cat(batches).tolist()) == sorted(TOKENS[:16].tolist())  # each shard by one worker
    assert sorted(torch.cat(again).tolist()) == sorted(TOKENS[:16].tolist())
    dataset = streaming_dataset(chunks, cache=tmp_path / "cache", storage=remote)
    assert torch.equal(torch.cat(list(streaming_loader(dataset, batch_size=4, num_workers=1))), TOKENS[:16])


def test_litdata_keeps_its_place_within_an_epoch(tmp_path: Path) -> None:
    chunks = write_streaming(tmp_path / "chunks", list(TOKENS[:16]), samples_per_chunk=4, data_version="1")

    def loader() -> object:
        dataset = streaming_dataset(chunks, cache=tmp_path / "cache")
        return streaming_loader(dataset, batch_size=2, num_workers=0)

    first = loader()
    batches = iter(first)  # type: ignore[call-overload]
    seen = [next(batches) for _ in range(3)]
    state = first.state_dict()  # type: ignore[attr-defined]
    second = loader()
    second.load_state_dict(state)  # type: ignore[attr-defined]
    assert torch.equal(torch.cat([*seen, *second]), TOKENS[:16])  # type: ignore[misc]


def test_shards_that_are_not_what_was_written(tmp_path: Path) -> None:
    zipped = write_gzip(tmp_path / "gzip", TEXTS, samples_per_shard=8, data_version="1")
    shard = zipped.path(zipped.shards[1])
    whole = shard.read_bytes()
    shard.write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:])
    with pytest.raises(DataError, match=r"00001.jsonl.gz is not what was written: its SHA-256"):
        read_shards(zipped.folder, GZIP)
    assert read_shards(zipped.folder, GZIP, check=False) == zipped
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(gzip_stream(zipped, first_bytes))
    shard.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_shards(zipped.folder, GZIP)
    with pytest.raises(DataError, match="cannot be read"):
        list(gzip_stream(zipped, first_bytes))
    tarred = write_tar(tmp_path / "tar", TEXTS, "txt", samples_per_shard=8, data_version="1")
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(tar_stream(tarred, "jpg", first_bytes))
    tarred.path(tarred.shards[0]).write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(tar_stream(tarred, "txt", first_bytes))


def test_folders_that_are_no_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no shards"):
        read_shards(tmp_path, GZIP)
    zipped = write_gzip(tmp_path / "gzip", TEXTS, samples_per_shard=8, data_version="1")
    with pytest.raises(DataError, match="in the format gzip JSON lines; got asked for memory-mapped"):
        read_shards(zipped.folder, MEMMAP)
    (zipped.folder / MANIFEST).write_text("{}")
    with pytest.raises(DataError, match="cannot be understood"):
        read_shards(zipped.folder, GZIP)
    write_gzip(tmp_path / "none", [], samples_per_shard=8, data_version="1")
    with pytest.raises(DataError, match="holds no samples"):
        read_shards(tmp_path / "none", GZIP)
    with pytest.raises(DataError, match="of one length"):
        write_tokens(tmp_path / "tokens", [TOKENS[0], TOKENS[0][:5]], data_version="1")
    with pytest.raises(DataError, match="at least one sample"):
        Samples([], first_bytes)
    with pytest.raises(UsageError, match="fit into two bytes"):
        token_array(torch.tensor([70_000]))
