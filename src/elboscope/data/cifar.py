"""The binary version of CIFAR-10: records of one label byte and 3072 pixel bytes.

The pixels are three planes (red, green, blue) of 32 × 32, row by row. The Python version of the
same set is a pickle; reading it would execute what is in it, so it is not read.
"""

from __future__ import annotations

__all__ = ["parse_cifar_batch", "read_cifar_batch"]

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from elboscope.core import InputError

from .content import AGAIN, read_content

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
