"""The official data sets: files, sizes, checksums, places, and how their files are read.

The checksums are of the *uncompressed* contents, so a file recompressed by a mirror passes and a
changed pixel does not. MNIST's and CIFAR-10's agree with those that other projects publish.
"""

from __future__ import annotations

__all__ = [
    "CIFAR10",
    "FASHION_MNIST",
    "MNIST",
    "OFFICIAL",
    "OfficialFile",
    "OfficialSet",
    "parse_cifar_batch",
    "parse_idx",
    "read_cifar_batch",
    "read_idx",
]

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from elboscope.core import InputError

from .images import AGAIN, read_content


class OfficialFile(NamedTuple):
    """Size in bytes and SHA-256 of a file's uncompressed content."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class OfficialSet:
    """What is known about a published data set.

    Args:
        name: The name ``load`` knows it by.
        shape: Shape of one image.
        num_train: Number of training images.
        num_test: Number of test images.
        folders: Where its files may lie below the data directory, the first being where a
            download is put; "" is the data directory itself.
        files: The files, by name.
        mirrors: Addresses of the folders that offer them, tried in this order.
        archive: Name of the .tar.gz that holds all files, or None where they come one by one,
            each with ".gz" appended.
        megabytes: Size of the download.
        pickled: A folder of the same set in a form that is not read, or None.
    """

    name: str
    shape: tuple[int, ...]
    num_train: int
    num_test: int
    folders: tuple[str, ...]
    files: Mapping[str, OfficialFile]
    mirrors: tuple[str, ...]
    megabytes: int
    archive: str | None = None
    pickled: str | None = None


MNIST = OfficialSet(
    name="mnist",
    shape=(1, 28, 28),
    num_train=60_000,
    num_test=10_000,
    folders=("MNIST/raw", "MNIST", "mnist/raw", "mnist", "raw", ""),
    files={
        "train-images-idx3-ubyte": OfficialFile(
            47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": OfficialFile(
            60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": OfficialFile(
            7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": OfficialFile(
            10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    megabytes=12,
)

FASHION_MNIST = OfficialSet(
    name="fashion_mnist",
    shape=(1, 28, 28),
    num_train=60_000,
    num_test=10_000,
    folders=("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion_mnist", "raw", ""),
    files={
        "train-images-idx3-ubyte": OfficialFile(
            47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": OfficialFile(
            60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": OfficialFile(
            7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": OfficialFile(
            10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    megabytes=31,
)

CIFAR10 = OfficialSet(
    name="cifar10",
    shape=(3, 32, 32),
    num_train=50_000,
    num_test=10_000,
    folders=(
        "cifar-10-batches-bin",
        "CIFAR10/cifar-10-batches-bin",
        "cifar10/cifar-10-batches-bin",
        "CIFAR10",
        "cifar10",
        "",
    ),
    files={
        "data_batch_1.bin": OfficialFile(
            30_730_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
        ),
        "data_batch_2.bin": OfficialFile(
            30_730_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"
        ),
        "data_batch_3.bin": OfficialFile(
            30_730_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"
        ),
        "data_batch_4.bin": OfficialFile(
            30_730_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"
        ),
        "data_batch_5.bin": OfficialFile(
            30_730_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"
        ),
        "test_batch.bin": OfficialFile(
            30_730_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"
        ),
    },
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    ),
    megabytes=170,
    archive="cifar-10-binary.tar.gz",
    pickled="cifar-10-batches-py",
)

OFFICIAL = (MNIST, FASHION_MNIST, CIFAR10)


# IDX, the format of MNIST and Fashion-MNIST: unsigned bytes in an array of a stated shape.
#
# Layout: two zero bytes, a type code (8: unsigned byte), the number of axes, each axis as a big-
# endian 32-bit integer, then the values in row-major order, and nothing after them.

UNSIGNED_BYTE = 8
MAX_AXES = 4


def read_idx(path: str | Path) -> UInt8[np.ndarray, "..."]:
    """Reads an IDX file of unsigned bytes, plain or gzip.

    It checks the form, not the checksum: the named sets do that on top.

    Args:
        path: The file.

    Returns:
        The array, of the shape the header states.

    Raises:
        InputError: Unreadable, truncated, too long, empty, another format or another type.

    References:
        LeCun, Cortes, Burges (1998). The MNIST database of handwritten digits.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "three-idx1-ubyte")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        ...     read_idx(path)
        array([7, 8, 9], dtype=uint8)
    """
    return parse_idx(read_content(path), str(path))


def parse_idx(data: bytes, path: str) -> UInt8[np.ndarray, "..."]:
    """Turns the bytes of an IDX file into its array; ``path`` is what messages call it."""
    shape = _shape(data, path)
    start, num_values = 4 + 4 * len(shape), math.prod(shape)
    if num_values == 0:
        raise InputError(
            path, expected="at least one value", got=f"an empty array of shape {shape}", do=AGAIN
        )
    if len(data) != start + num_values:
        word = "truncated" if len(data) < start + num_values else "too long"
        raise InputError(
            path,
            expected=f"{start + num_values} bytes for shape {shape}",
            got=f"{len(data)} ({word})",
            do=AGAIN,
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _shape(data: bytes, path: str) -> tuple[int, ...]:
    if len(data) < 4:
        raise InputError(
            path, expected="an IDX header", got=f"{len(data)} bytes (truncated)", do=AGAIN
        )
    zeros, code, axes = data[:2], data[2], data[3]
    if zeros != b"\0\0" or not 1 <= axes <= MAX_AXES:
        raise InputError(
            path,
            expected=f"the IDX magic number 00 00 08 and 1 to {MAX_AXES} axes",
            got=data[:4].hex(" "),
            do="Is this an IDX file? Arrays are read from .npy and .npz.",
        )
    if code != UNSIGNED_BYTE:
        raise InputError(
            path,
            expected="IDX values of type 08 (unsigned byte)",
            got=f"type {code:02x}",
            do="Store the values as unsigned bytes, or as .npy.",
        )
    if len(data) < 4 + 4 * axes:
        raise InputError(
            path,
            expected=f"an IDX header of {4 + 4 * axes} bytes",
            got=f"{len(data)} (truncated)",
            do=AGAIN,
        )
    return struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])


# The binary version of CIFAR-10: records of one label byte and 3072 pixel bytes.
#
# The pixels are three planes (red, green, blue) of 32 × 32, row by row. The Python version of the
# same set is a pickle; reading it would execute what is in it, so it is not read.

IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
NUM_CLASSES = 10


class CifarBatch(NamedTuple):
    """Images ``(N, 3, 32, 32)`` and labels ``(N,)``, unsigned bytes."""

    images: UInt8[np.ndarray, "N 3 32 32"]
    labels: UInt8[np.ndarray, " N"]


def read_cifar_batch(path: str | Path) -> CifarBatch:
    """Reads one file of CIFAR-10's binary version, plain or gzip.

    It checks the form, not the checksum: ``cifar10`` does that on top.

    Raises:
        InputError: Unreadable, empty, not whole records, or a label above 9.

    References:
        Krizhevsky (2009). Learning multiple layers of features from tiny images.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "batch.bin")
        ...     _ = path.write_bytes(bytes([6]) + bytes([255]) * 3072)
        ...     batch = read_cifar_batch(path)
        >>> batch.images.shape, batch.labels
        ((1, 3, 32, 32), array([6], dtype=uint8))
    """
    return parse_cifar_batch(read_content(path), str(path))


def parse_cifar_batch(data: bytes, path: str) -> CifarBatch:
    """Turns the bytes of a CIFAR-10 file into images and labels; messages call it ``path``."""
    if not data or len(data) % RECORD_BYTES:
        raise InputError(
            path,
            expected=f"whole CIFAR-10 records of {RECORD_BYTES} bytes",
            got=f"{len(data)} bytes, {len(data) % RECORD_BYTES} of them after the last whole one"
            if data
            else "an empty file",
            do=AGAIN,
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0]
    if labels.max() >= NUM_CLASSES:
        first = int(np.argmax(labels >= NUM_CLASSES))
        raise InputError(
            path,
            expected=f"labels from 0 to {NUM_CLASSES - 1}",
            got=f"{labels[first]} in record {first}",
            do="Is this CIFAR-10's binary version (cifar-10-batches-bin)?",
        )
    return CifarBatch(records[:, 1:].reshape(-1, *IMAGE_SHAPE), labels)
