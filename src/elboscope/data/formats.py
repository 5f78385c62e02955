"""IDX, the format of MNIST and Fashion-MNIST: unsigned bytes in an array of a stated shape.

Layout: two zero bytes, a type code (8: unsigned byte), the number of axes, each axis as a
big-endian 32-bit integer, then the values in row-major order, and nothing after them.
"""

from __future__ import annotations

__all__ = ["parse_cifar_batch", "parse_idx", "read_cifar_batch", "read_idx"]

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from elboscope.core import InputError

from .images import AGAIN, read_content

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
