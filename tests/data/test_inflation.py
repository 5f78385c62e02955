"""Compressed files, pipes and devices: what would fill the memory or never end is refused."""

from __future__ import annotations

import gzip
import io
import os
import tarfile

import numpy as np
import pytest

import elboscope.data.images as images
from elboscope.core import InputError
from elboscope.data import read_array
from elboscope.data.official import read_idx

# A small compressed file can stand for any amount of zeros: 2 MB of gzip for 4 GB of memory.


@pytest.mark.slow
def test_a_gzip_is_not_inflated_beyond_all_sense(tmp_path):
    """300 MB of zeros in 0.3 MB: refused once 256 MiB have been read."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 2_000_000
    words = r"idx3-ubyte.gz: expected at most 268,435,456 bytes when decompressed; got more"
    with pytest.raises(InputError, match=words):
        read_idx(path)


@pytest.fixture
def little(monkeypatch):
    monkeypatch.setattr(images, "ALWAYS_BYTES", 10_000)


def test_reading_stops_at_the_limit(tmp_path, little, monkeypatch):
    path = tmp_path / "zeros.gz"
    path.write_bytes(gzip.compress(bytes(1_000_000)))
    monkeypatch.setattr(images, "MOST_RATIO", 1)
    monkeypatch.setattr(images, "CHUNK", 1000)
    read = []
    whole = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, n: read.append(n) or whole(self, n))
    with pytest.raises(InputError, match="at most 10,000 bytes when decompressed"):
        images.read_content(path)
    assert sum(read) == 10_001


def test_what_compresses_as_data_do_is_read(tmp_path, little):
    x = bytes(np.random.default_rng(0).integers(0, 4, 200_000, dtype=np.uint8))
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(x))
    assert images.read_content(path) == x  # larger than the least limit, at a ratio of 4


def test_a_npz_is_not_inflated_beyond_all_sense(tmp_path, little):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((2000, 2000), dtype=np.float32))
    with pytest.raises(InputError, match=r"x.npz: expected at most .* bytes when decompressed"):
        read_array(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", x=np.zeros((2000, 20), dtype=np.float32))
    assert read_array(tmp_path / "x.npz").x.shape == (2000, 20)


def test_an_archive_is_not_inflated_beyond_all_sense(tmp_path, little):
    """What is skipped is decompressed too: the limit is on the whole."""
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, size in (("zeros", 5_000_000), ("a", 3)):
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    with pytest.raises(InputError, match=r"a.tar.gz: expected at most"):
        images.read_archive(path, ["a"])


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(InputError, match="expected a file or a folder; got a pipe or a device"):
        read_array(tmp_path / "x.npy")
